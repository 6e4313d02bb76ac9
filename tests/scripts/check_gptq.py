"""Unpacks a GPTQ (version 2) directory by itself and compares it with a dense directory, exactly.

    llama export --model PACKED --format gptq --output GPTQ
    llama export --model PACKED --format dense --dtype f32 --output DENSE
    python check_gptq.py GPTQ DENSE

Needs numpy and safetensors.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

gptq, dense = (load_file(Path(folder) / "model.safetensors") for folder in sys.argv[1:3])
entry = json.loads((Path(sys.argv[1]) / "quantize_config.json").read_text())
assert entry == json.loads((Path(sys.argv[1]) / "config.json").read_text())["quantization_config"]
assert entry["checkpoint_format"] == "gptq_v2"
bits = entry["bits"]


def fields(words):
    """Fields of `bits` along axis 0, from one stream of bits, low ones first."""
    stream = np.unpackbits(words.view(np.uint32).T.copy().view(np.uint8), axis=1, bitorder="little")
    stream = stream.reshape(stream.shape[0], -1, bits)
    return (stream << np.arange(bits, dtype=np.uint8)).sum(axis=2).T.astype(np.int32)


layers = [name.removesuffix(".qweight") for name in gptq if name.endswith(".qweight")]
for layer in layers:
    q = fields(gptq[layer + ".qweight"])
    z = fields(gptq[layer + ".qzeros"].T).T
    s = gptq[layer + ".scales"].astype(np.float32)
    group = gptq[layer + ".g_idx"]
    weight = (q - z[group]).astype(np.float32) * s[group]
    assert np.array_equal(weight.T, dense[layer + ".weight"]), layer
rest = [name for name in dense if name.removesuffix(".weight") not in layers]
assert all(np.array_equal(gptq[name], dense[name]) for name in rest)
print(f"{len(layers)} packed and {len(rest)} other tensors are the same")
