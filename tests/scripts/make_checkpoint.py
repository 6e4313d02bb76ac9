"""Writes a large random checkpoint and a few tokens, to measure what memory quantizing it takes.

    python make_checkpoint.py DIR
    llama quantize --model DIR --calibration-tokens DIR/tokens.safetensors --method rtn --train-size 4 --val-size 4 --e2e-size 4

24 blocks in bf16, about 1.5 GB; `--blocks`, `--hidden`, `--windows` and `--seq-len` make others. Needs numpy and safetensors.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--blocks", type=int, default=24)
parser.add_argument("--hidden", type=int, default=1536, help="a multiple of 128")
parser.add_argument("--windows", type=int, default=4, help="windows of each kind")
parser.add_argument("--seq-len", type=int, default=32)
arguments = parser.parse_args()
HIDDEN, BLOCKS, VOCAB = arguments.hidden, arguments.blocks, 4096
INNER, HEADS = 3 * HIDDEN, HIDDEN // 128
folder = arguments.folder
folder.mkdir(parents=True, exist_ok=True)
config = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
    "intermediate_size": INNER, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS,
    "vocab_size": VOCAB, "max_position_embeddings": 2048, "hidden_act": "silu", "rms_norm_eps": 1e-5,
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
    for part in ["q", "k", "v", "o"]:
        tensors[f"model.layers.{block}.self_attn.{part}_proj.weight"] = [HIDDEN, HIDDEN]
    for part in ["gate", "up"]:
        tensors[f"model.layers.{block}.mlp.{part}_proj.weight"] = [INNER, HIDDEN]
    tensors[f"model.layers.{block}.mlp.down_proj.weight"] = [HIDDEN, INNER]
    for norm in ["input", "post_attention"]:
        tensors[f"model.layers.{block}.{norm}_layernorm.weight"] = [HIDDEN]
save(folder / "model.safetensors", tensors)
windows = {name: random.integers(0, VOCAB, (arguments.windows, arguments.seq_len), np.int32) for name in ["calib", "val", "e2e", "eval"]}
save_file(windows, folder / "tokens.safetensors")
