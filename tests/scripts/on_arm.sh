#!/bin/sh
# Runs the tests of the ops on an emulated Arm CPU: NEON and its integer dot products.
#
#     tests/scripts/on_arm.sh [CPU] [ARGUMENTS OF THE TESTS]
#
# CPU is one of qemu's: `max` (the default) has every instruction; `cortex-a72` has no dot products.
# Needs, on Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user, and
# `rustup target add aarch64-unknown-linux-gnu`.
set -eu
cd "$(dirname "$0")/../.."

cpu="${1:-max}"
[ $# -eq 0 ] || shift

# The `gemm` crate has assembler for half precision that this target's baseline lacks. Where dependencies are
# optimized it is never emitted by itself; in this profile it is.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+fp16"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $cpu -L /usr/aarch64-linux-gnu"

cargo test --profile gpu-test --locked --target aarch64-unknown-linux-gnu -p burn-eqat-kernels \
  --lib --test ops "$@"
