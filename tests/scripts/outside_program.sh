#!/usr/bin/env bash
# Builds and runs a program outside of the workspace, tests/fixtures/outside: burn-eqat as a dependency with no
# feature but `flex`. Fails if the library brings `tokenizers`, if the program's quantization takes more than
# 20 lines, or if a model that was saved and loaded differs.
#
# CARGO_TARGET_DIR, where it is set, is shared, so that dependencies are built once.
set -euo pipefail

root="$(cd "$(dirname "$0")/../.." && pwd)"
source="$root/tests/fixtures/outside"

lines="$(sed -n '\#// \[quantization\]#,\#// \[/quantization\]#p' "$source/main.rs" | sed '1d;$d' | grep -c .)"
if [ "$lines" -gt 20 ]; then
    echo "the quantization of $source/main.rs takes $lines lines, expected at most 20" >&2
    exit 1
fi
echo "quantization: $lines lines"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cp "$source"/*.rs "$folder/src/"
# The same versions as the workspace's.
cp "$root/Cargo.lock" "$folder/"
burn="$(sed -n 's/^burn = { version = "\([^"]*\)".*/\1/p' "$root/Cargo.toml")"
cat > "$folder/Cargo.toml" <<TOML
[package]
name = "outside"
version = "0.1.0"
edition = "2024"

[dependencies]
burn = { version = "$burn", default-features = false, features = ["std", "flex", "autodiff", "train"] }
burn-eqat = { path = "$root/burn-eqat", default-features = false, features = ["flex"] }

[workspace]

TOML
# The profile of the workspace, without which dependencies would be built anew and tests be slow.
sed -n '/^\[profile\.dev/,/^$/p' "$root/Cargo.toml" >> "$folder/Cargo.toml"

cd "$folder"
tree="$(cargo tree --edges normal --prefix none)"
if grep -q '^tokenizers ' <<< "$tree"; then
    echo "burn-eqat with no feature but flex brings tokenizers" >&2
    exit 1
fi
cargo run
