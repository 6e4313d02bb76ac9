"""Reads a GGUF file with the `gguf` package and compares it with a dense directory, to within what f16 rounds.

    llama export --model PACKED --format gguf --output FILE.gguf --older-readers
    llama export --model PACKED --format dense --dtype f32 --output DENSE
    python check_gguf.py FILE.gguf DENSE

Needs gguf, numpy and safetensors. (The package knows nothing of the type Q2_0.)
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import load_file

reader = GGUFReader(sys.argv[1])
dense = load_file(Path(sys.argv[2]) / "model.safetensors")
architecture = reader.fields["general.architecture"].contents()
PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}
OTHERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def original(name):
    """The name in a Hugging Face directory."""
    if not name.startswith("blk."):
        layer, part = name.rsplit(".", 1)
        return f"{OTHERS[layer]}.{part}"
    _, block, layer, part = name.split(".")
    return f"model.layers.{block}.{PARTS[layer]}.{part}"


kinds = Counter()
for tensor in reader.tensors:
    if tensor.name == "rope_freqs.weight":
        continue
    expected = dense.pop(original(tensor.name)).astype(np.float64)
    found = dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
    if architecture == "llama" and (".attn_q." in tensor.name or ".attn_k." in tensor.name):
        # llama.cpp keeps the halves of a head interleaved.
        kind = "head_count" if ".attn_q." in tensor.name else "head_count_kv"
        heads = reader.fields[f"llama.attention.{kind}"].contents()
        rest = expected.shape[1:]
        expected = expected.reshape(heads, 2, -1, *rest).swapaxes(1, 2).reshape(-1, *rest)
    assert found.shape == expected.shape, tensor.name
    # The scale and the offset of a block are rounded to f16, once each.
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() <= 2.0**-11 * 2 * scale, tensor.name
    kinds[tensor.tensor_type.name] += 1
assert not dense, f"not in the file: {sorted(dense)}"
print(f"{dict(kinds)} agree")
