#!/bin/sh
# Runs the tests of the kernels by SPIR-V on a current Mesa's software Vulkan, which has what older ones and WGSL
# lack: matrix units (8x8x8, f16) and, where it is taken for a GPU, planes that shuffle.
#
#     tests/scripts/on_mesa.sh FOLDER [ARGUMENTS OF THE TESTS]
#
# FOLDER takes a Debian unstable of some 700 MB, made once; Mesa 26.2 is known to work, 25.0 is not enough.
# `cube::tests` are the tests of every way to a product (12 minutes, most of which is compiling shaders).
# Needs root (for chroot) and, on Debian: debootstrap gcc libvulkan-dev.
set -eu
cd "$(dirname "$0")/../.."

root="$1"
shift
if [ ! -e "$root/usr/share/vulkan/icd.d" ]; then
  debootstrap --variant=minbase --include=mesa-vulkan-drivers,libvulkan1 unstable "$root"
fi

# A layer that says of the device that it is a GPU: of one that says CPU, planes are not used.
mkdir -p "$root/eqat"
gcc -O1 -shared -fPIC -fvisibility=hidden -o "$root/eqat/gpu_layer.so" tests/scripts/gpu_layer.c
cat > "$root/eqat/gpu_layer.json" <<'JSON'
{
  "file_format_version": "1.1.2",
  "layer": {
    "name": "VK_LAYER_EQAT_gpu",
    "type": "GLOBAL",
    "library_path": "/eqat/gpu_layer.so",
    "api_version": "1.3.250",
    "implementation_version": "1",
    "description": "Says that the device is a GPU"
  }
}
JSON

cargo test --profile gpu-test --locked -p burn-eqat-kernels --features vulkan --lib --test ops \
  --no-run --message-format json |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' |
  while read -r test; do
    cp "$test" "$root/eqat/test"
    chroot "$root" env HOME=/root VK_LAYER_PATH=/eqat VK_INSTANCE_LAYERS=VK_LAYER_EQAT_gpu \
      BURN_DEVICE=vulkan PROPTEST_CASES="${PROPTEST_CASES:-4}" /eqat/test "$@"
  done
