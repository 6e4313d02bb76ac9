"""Writes the tiny models of `tests/fixtures/families`, exports them as GGUF, and compares llama.cpp's logits with
those that transformers computed.

    cargo build --release -p llama
    python check_llama_cpp_families.py target/release/llama

Needs numpy, safetensors and llama-cpp-python. llama.cpp computes no windows for these families, so that behind a window
there is nothing to compare; its products take activations in f16.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from llama_cpp import Llama
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parent.parent / "fixtures/families"
TOLERANCE = 4e-3
MASK = (1 << 64) - 1


def weight(name, shape):
    """A weight by its name, as the fixtures' README says."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    values = np.empty(int(np.prod(shape)), np.float32)
    for at in range(len(values)):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        draw = state >> 40
        norm = name.endswith("norm.weight")
        values[at] = 1 + (draw % 9 - 4) / 128 if norm else (draw % 127 - 63) / 256
    return values.reshape(shape)


def tokenizer(size):
    """A tokenizer of single characters: there have to be as many tokens as in the model, no more."""
    vocab = {chr(ord("0") + at): at for at in range(size - 1)} | {"01": size - 1}
    model = {"type": "BPE", "vocab": vocab, "merges": ["0 1"]}
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
            "trim_offsets": True, "use_regex": True}, "model": model}


def window(config):
    """How far the model looks back in its first windowed layer."""
    on = config.get("use_sliding_window", config["model_type"] == "mistral")
    return config.get("sliding_window") if on else None


def check(program, name, folder):
    fixture = json.loads((FIXTURES / f"{name}.json").read_text())
    config = fixture["config"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(config["vocab_size"])))
    save_file({key: weight(key, shape) for key, shape in fixture["tensors"].items()}, folder / "model.safetensors")
    file = folder / "model.gguf"
    command = [program, "export", "--model", folder, "--format", "gguf", "--output", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    model = Llama(str(file), n_ctx=64, logits_all=True, type_k=0, type_v=0, verbose=False)
    tokens = fixture["tokens"]
    model.eval(tokens)
    limit = window(config) or len(tokens)
    compared = 0
    for position, expected in zip(fixture["positions"], fixture["logits"]):
        if position < limit:
            error = np.abs(model.scores[position] - np.array(expected)).max()
            assert error < TOLERANCE, f"{name}, position {position}: off by {error}, expected less than {TOLERANCE}"
            compared += 1
    print(f"{name}: the same logits at {compared} positions")


for path in sorted(FIXTURES.glob("*.json")):
    with tempfile.TemporaryDirectory() as folder:
        check(sys.argv[1], path.stem, Path(folder))
