"""Writes a large random checkpoint and a few tokens, to measure what memory quantizing it takes.

    python make_checkpoint.py DIR
    llama quantize --model DIR --calibration-tokens DIR/tokens.safetensors --method rtn --train-size 4 --val-size 4 --e2e-size 4

24 blocks in bf16, about 1.5 GB; `--shape llama-2-7b` makes 4 blocks of that model (2.1 GB), `--shape llama-2-70b` 2 blocks of that
(4.5 GB); `--blocks`, `--hidden`, `--windows` and the like make others. Needs numpy and safetensors.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

# Of each shape: blocks, and what config.json calls the sizes.
SHAPES = {
    "llama-2-7b": dict(blocks=4, hidden=4096, inner=11008, heads=32, kv_heads=32, vocab=32000, positions=4096),
    "llama-2-13b": dict(blocks=2, hidden=5120, inner=13824, heads=40, kv_heads=40, vocab=32000, positions=4096),
    "llama-2-70b": dict(blocks=2, hidden=8192, inner=28672, heads=64, kv_heads=8, vocab=32000, positions=4096),
    "llama-3-8b": dict(blocks=2, hidden=4096, inner=14336, heads=32, kv_heads=8, vocab=128256, positions=8192),
}

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--shape", choices=SHAPES, help="the sizes of a model that there is; other flags win over them")
parser.add_argument("--blocks", type=int, help="default 24")
parser.add_argument("--hidden", type=int, help="a multiple of 128; default 1536")
parser.add_argument("--inner", type=int, help="default 3 times as wide")
parser.add_argument("--heads", type=int, help="default of 128 values each")
parser.add_argument("--kv-heads", type=int, help="default as many as heads")
parser.add_argument("--vocab", type=int, help="default 4096")
parser.add_argument("--windows", type=int, default=4, help="windows of each kind")
parser.add_argument("--seq-len", type=int, default=32)
arguments = parser.parse_args()
sizes = {"blocks": 24, "hidden": 1536, "vocab": 4096, "positions": 2048, **SHAPES.get(arguments.shape, {})}
given = {name: value for name, value in vars(arguments).items() if name not in ["folder", "shape", "windows", "seq_len"]}
sizes |= {name: value for name, value in given.items() if value is not None}
HIDDEN, BLOCKS, VOCAB = sizes["hidden"], sizes["blocks"], sizes["vocab"]
INNER, HEADS = sizes.get("inner", 3 * HIDDEN), sizes.get("heads", HIDDEN // 128)
KV_HEADS = sizes.get("kv_heads", HEADS)
KEYS = KV_HEADS * (HIDDEN // HEADS)
folder = arguments.folder
folder.mkdir(parents=True, exist_ok=True)
config = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
    "intermediate_size": INNER, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    "vocab_size": VOCAB, "max_position_embeddings": sizes["positions"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}
(folder / "config.json").write_text(json.dumps(config))
random = np.random.default_rng(0)


def save(path, tensors):
    """A safetensors file of bf16 tensors: numpy has no such type, so the header is written here."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        length = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + length]}
        offset += length
    head = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, shape in tensors.items():
            if name.endswith("norm.weight"):
                values = np.ones(shape, np.float32)
            else:
                values = random.standard_normal(shape, np.float32) * 0.02
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


tensors = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN], "lm_head.weight": [VOCAB, HIDDEN]}
for block in range(BLOCKS):
    for part in ["q", "o"]:
        tensors[f"model.layers.{block}.self_attn.{part}_proj.weight"] = [HIDDEN, HIDDEN]
    for part in ["k", "v"]:
        tensors[f"model.layers.{block}.self_attn.{part}_proj.weight"] = [KEYS, HIDDEN]
    for part in ["gate", "up"]:
        tensors[f"model.layers.{block}.mlp.{part}_proj.weight"] = [INNER, HIDDEN]
    tensors[f"model.layers.{block}.mlp.down_proj.weight"] = [HIDDEN, INNER]
    for norm in ["input", "post_attention"]:
        tensors[f"model.layers.{block}.{norm}_layernorm.weight"] = [HIDDEN]
save(folder / "model.safetensors", tensors)
windows = {name: random.integers(0, VOCAB, (arguments.windows, arguments.seq_len), np.int32) for name in ["calib", "val", "e2e", "eval"]}
save_file(windows, folder / "tokens.safetensors")
