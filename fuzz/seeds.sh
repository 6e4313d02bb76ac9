#!/usr/bin/env bash
# Writes a valid file of each kind into the corpora.
set -euo pipefail
cd "$(dirname "$0")"
cargo +nightly run --quiet --release --bin seeds
