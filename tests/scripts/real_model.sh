#!/usr/bin/env bash
# Repeats the table of docs/accuracy.md on a real model: SmolLM2-135M-Instruct, as a Hugging Face directory, with its windows of tokens
# (tensors `calib`, `val`, `e2e` and `eval`). For each scheme: perplexity, size and time of each stage, questions if EQAT_DATA has files of
# them, tokens per second, and an answer. About an hour for each scheme on two cores.
#
#   tests/scripts/real_model.sh MODEL TOKENS OUTPUT [SCHEME..]
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
model=$(realpath "$1") tokens=$(realpath "$2") output=$(realpath -m "$3")
shift 3
[ $# -gt 0 ] || set -- w2g64 w3g64 w4g64
cd "$(dirname "$0")/../.."
cargo build --release --locked -p llama
llama=${CARGO_TARGET_DIR:-target}/release/llama
mkdir -p "$output"

# Questions and a chat.
ask() {
  local questions=("${EQAT_DATA:-/nowhere}"/eval/*.jsonl)
  if [ -e "${questions[0]}" ]; then
    "$llama" eval --model "$1" --choices "${questions[@]}" --limit 100
  fi
  "$llama" generate --model "$1" --instruction "What is the capital of France?"
  "$llama" generate --model "$1" --instruction "Tell me in two sentences why we sleep."
}

ask "$model"
for scheme in "$@"; do
  "$llama" quantize --model "$model" --scheme "$scheme" --calibration-tokens "$tokens" --train-size 128 --val-size 8 \
    --e2e-size 317 --e2e-batch 2 --output "$output/$scheme" --report "$output/$scheme.json" --force
  ask "$output/$scheme"
done
