#!/usr/bin/env python3
"""Writes encoder_decoder.pt, as torch.save(model.state_dict(), path) writes it.

PyTorch is not needed: such a file is a ZIP of a pickle, which names the tensors, and of their numbers.
The weights are random; some columns are larger than others, as in trained models.
"""

import collections
import io
import pickle
import random
import struct
import sys
import types
import zipfile

WIDTH = 32

# Names that the pickle refers to; what reads the file has its own.
torch = types.ModuleType("torch")
utils = types.ModuleType("torch._utils")
FloatStorage = type("FloatStorage", (), {"__module__": "torch"})


def _rebuild_tensor_v2(*_):
    raise NotImplementedError


_rebuild_tensor_v2.__module__ = "torch._utils"
torch.FloatStorage, torch._utils, utils._rebuild_tensor_v2 = FloatStorage, utils, _rebuild_tensor_v2
sys.modules.update({"torch": torch, "torch._utils": utils})


class Storage:
    """Where the numbers of a tensor are: in the entry data/KEY."""

    def __init__(self, key, count):
        self.key, self.count = key, count


class Tensor:
    """A tensor of a storage of its own, row by row."""

    def __init__(self, key, shape):
        self.key, self.shape = key, shape

    def __reduce__(self):
        count, strides = 1, []
        for size in reversed(self.shape):
            strides.insert(0, count)
            count *= size
        storage = Storage(self.key, count)
        hooks = collections.OrderedDict()
        arguments = (storage, 0, self.shape, tuple(strides), False, hooks)
        return _rebuild_tensor_v2, arguments


class Pickler(pickle.Pickler):
    """Writes storages as references."""

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", FloatStorage, value.key, "cpu", value.count)
        return None


def parameters():
    """Names, shapes and numbers of the model's parameters, as PyTorch has them: weights are [out, in]."""
    random.seed(12)
    # For each block: whether it has a norm, and its linear layers by their names and widths.
    up, down = ("up", WIDTH, WIDTH), ("down", WIDTH, WIDTH)
    cross = [(f"cross.{name}", WIDTH, WIDTH) for name in ("query", "key", "value", "output")]
    blocks = [
        ("encoder.0.", True, [up, down]),
        ("encoder.1.", True, [up, down]),
        ("decoder.0.", True, [*cross, up, down]),
        ("decoder.1.", True, [*cross, up, down]),
        ("", False, [("head", WIDTH, WIDTH)]),
    ]
    for prefix, norm, linears in blocks:
        if norm:
            gains = [random.uniform(0.6, 1.6) for _ in range(WIDTH)]
            yield f"{prefix}norm.weight", (WIDTH,), gains
            yield f"{prefix}norm.bias", (WIDTH,), [random.gauss(0, 0.1) for _ in range(WIDTH)]
        for name, inputs, outputs in linears:
            sizes = [random.uniform(0.5, 1.8) * inputs**-0.5 for _ in range(inputs)]
            weight = [random.gauss(0, size) for _ in range(outputs) for size in sizes]
            yield f"{prefix}{name}.weight", (outputs, inputs), weight
            yield f"{prefix}{name}.bias", (outputs,), [random.gauss(0, 0.05) for _ in range(outputs)]


def entry(name):
    """An entry with a date of its own, so that the file is the same each time."""
    return zipfile.ZipInfo(f"encoder_decoder/{name}", (1980, 1, 1, 0, 0, 0))


def main(path):
    state = collections.OrderedDict()
    with zipfile.ZipFile(path, "w") as archive:
        for key, (name, shape, numbers) in enumerate(parameters()):
            state[name] = Tensor(str(key), shape)
            archive.writestr(entry(f"data/{key}"), struct.pack(f"<{len(numbers)}f", *numbers))
        pickled = io.BytesIO()
        Pickler(pickled, protocol=2).dump(state)
        archive.writestr(entry("data.pkl"), pickled.getvalue())
        archive.writestr(entry("byteorder"), "little")
        archive.writestr(entry("version"), "3\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "encoder_decoder.pt")
