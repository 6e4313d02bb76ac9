#!/usr/bin/env python3
"""Times PyTorch's dense linear layer and GemLite's packed one, for the table of the `kernels` bench.

    python torch_baseline.py --output torch.json
    cargo run --release -p burn-eqat-benches ... --bin kernels -- --beside torch.json

Needs a GPU and `pip install torch gemlite`; without GemLite only PyTorch is timed. The shapes, the rows
and the way of timing are those of the bench: weights enough to leave the caches, calls issued in
batches, the median of the batches. Both are called from Python, so small products show its cost, too.
"""

import argparse
import itertools
import json
import statistics
import time

import torch

WORKING_SET = 256 << 20


def median_microseconds(call, weights, seconds):
    turn = itertools.cycle(weights)

    def batch(calls):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call(next(turn))
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls

    for _ in range(2):
        once = batch(len(weights))
    calls = max(1, min(200, int(seconds / 12 / once)))
    return statistics.median(batch(calls) for _ in range(11)) * 1e6


def copies(size):
    return max(1, min(64, -(-WORKING_SET // size)))


def packed_layer(bits, group_size, k, n, dtype):
    """A GemLite layer of random codes, or None where GemLite is not installed or has no such width."""
    try:
        from gemlite.core import DType, GemLiteLinear
    except ImportError:
        return None
    if bits not in (1, 2, 4, 8):
        return None
    kind = DType.BF16 if dtype == torch.bfloat16 else DType.FP16
    layer = GemLiteLinear(
        bits, group_size=group_size, in_features=k, out_features=n, input_dtype=kind, output_dtype=kind
    )
    codes = torch.randint(0, 2**bits, (n, k), dtype=torch.uint8, device="cuda")
    groups = n * k // group_size
    scales = torch.rand((groups, 1), dtype=dtype, device="cuda") * 0.01
    zeros = torch.randint(0, 2**bits, (groups, 1), device="cuda").to(dtype)
    layer.pack(codes, scales, zeros, bias=None)
    return layer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="4096x4096,11008x4096,8192x8192,28672x8192")
    parser.add_argument("--rows", default="1,2,4,8,16,32,64,256,2048")
    parser.add_argument("--bits", default="2,4")
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--output", default="torch.json")
    arguments = parser.parse_args()
    dtype = torch.bfloat16

    results = []

    def record(library, shape, bits, m, microseconds):
        row = {"library": library, "shape": shape, "bits": bits, "m": m, "microseconds": microseconds}
        print(row, flush=True)
        results.append(row)

    for shape in arguments.shapes.split(","):
        n, k = map(int, shape.split("x"))
        inputs = [torch.randn(int(m), k, dtype=dtype, device="cuda") for m in arguments.rows.split(",")]
        weights = [torch.randn(n, k, dtype=dtype, device="cuda") for _ in range(copies(n * k * 2))]
        for x in inputs:
            call = lambda weight: torch.nn.functional.linear(x, weight)
            record("torch", shape, None, len(x), median_microseconds(call, weights, arguments.seconds))
        del weights
        for bits in map(int, arguments.bits.split(",")):
            size = n * k * bits // 8
            layers = [packed_layer(bits, arguments.group_size, k, n, dtype) for _ in range(copies(size))]
            if layers[0] is None:
                print(f"skipped: GemLite at {bits} bits")
                continue
            for x in inputs:
                call = lambda layer: layer(x)
                record("gemlite", shape, bits, len(x), median_microseconds(call, layers, arguments.seconds))
    with open(arguments.output, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
