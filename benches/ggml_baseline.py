#!/usr/bin/env python3
"""Times the matrix products of llama.cpp (ggml's CPU backend) on the shapes of the bench `linear`.

    python ggml_baseline.py LIBRARY.. [--rows 1 8 128] [--types Q2_K Q4_0] [--shapes 4096x4096]

LIBRARY: the shared libraries of ggml, in the order in which they need each other, as a build of llama.cpp puts them into `bin`
(`libggml-base.so libggml-cpu.so`), or one that has all of it (a Python package's module). No Python package is needed.

As in the bench, there are weights enough to leave the caches, and a call takes the next one. ggml quantizes its activations to
8 bits. Each of its calls wakes its threads; with `--threads 1` none has to be woken. With `--repack`, weights are in ggml's own
order for this CPU where it has one, as when llama.cpp loads a model. The median of eleven batches, in microseconds.
"""

import argparse
import ctypes
import itertools
import os
import random
import statistics
import struct
import time

WORKING_SET = 256 << 20
TYPES = {"F32": 0, "Q4_0": 2, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12}
F32 = TYPES["F32"]


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Ggml:
    """The functions of the library that are needed."""

    def __init__(self, paths):
        self.libraries = [ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL) for path in paths]
        pointer, integer, size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t
        self.init = self.function("ggml_init", pointer, InitParams)
        self.new_tensor = self.function("ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, integer, integer)
        self.data = self.function("ggml_get_data", pointer, pointer)
        self.mul_mat = self.function("ggml_mul_mat", pointer, pointer, pointer, pointer)
        self.new_graph = self.function("ggml_new_graph", pointer, pointer)
        self.expand = self.function("ggml_build_forward_expand", None, pointer, pointer)
        self.compute = self.function("ggml_graph_compute_with_ctx", ctypes.c_int, pointer, pointer, ctypes.c_int)
        self.free = self.function("ggml_free", None, pointer)
        self.row_size = self.function("ggml_row_size", size, ctypes.c_int, integer)
        self.quantize = self.function(
            "ggml_quantize_chunk", size, ctypes.c_int, pointer, pointer, integer, integer, integer, pointer
        )

        # It reports each tensor that it brings into another order.
        silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self.silent = silent(lambda level, text, data: None)
        self.function("ggml_log_set", None, silent, ctypes.c_void_p)(self.silent, None)
        self.allocate = self.function("ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer)
        self.plain = self.function("ggml_backend_cpu_buffer_type", pointer)
        self.set = self.function("ggml_backend_tensor_set", None, pointer, pointer, size, size)
        self.free_buffer = self.function("ggml_backend_buffer_free", None, pointer)

    def repacked(self):
        """Where tensors are brought into the order for this CPU. (A function of C++.)"""
        return self.function("_Z35ggml_backend_cpu_repack_buffer_typev", ctypes.c_void_p)()

    def function(self, name, result, *arguments):
        for library in self.libraries:
            if hasattr(library, name):
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
                return function
        raise SystemExit(f"no {name} in {', '.join(str(library._name) for library in self.libraries)}")

    def instructions(self):
        """What the library was compiled for."""
        names = ["avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx_vnni", "neon", "dotprod"]
        return [name for name in names if self.function(f"ggml_cpu_has_{name}", ctypes.c_int)()]


def floats(count):
    """Random numbers in memory: some of them, repeated."""
    some = struct.pack("4096f", *(random.uniform(-0.02, 0.02) for _ in range(4096)))
    return some * (count // 4096) + some[: count % 4096 * 4]


def measure(ggml, name, k, n, rows, threads, seconds, repack):
    weight_bytes = ggml.row_size(TYPES[name], k) * n
    copies = max(1, min(64, -(-WORKING_SET // weight_bytes)))
    memory = copies * (rows * n * 4 + (1 << 20)) + rows * k * 4 + (64 << 20)
    # Weights are in memory of their own.
    weights_context = ggml.init(InitParams(1 << 20, None, True))
    context = ggml.init(InitParams(memory, None, False))
    if not context or not weights_context:
        raise SystemExit(f"ggml has no room for {memory} bytes")
    weights = [ggml.new_tensor(weights_context, TYPES[name], k, n) for _ in range(copies)]
    kind = ggml.repacked() if repack else ggml.plain()
    buffer = ggml.allocate(weights_context, kind)
    if not buffer:
        raise SystemExit(f"ggml has no room for {copies} weights")
    packed = ctypes.create_string_buffer(weight_bytes)
    ggml.quantize(TYPES[name], floats(k * n), packed, 0, n, k, None)
    x = ggml.new_tensor(context, F32, k, rows)
    ctypes.memmove(ggml.data(x), floats(k * rows), k * rows * 4)
    graphs = []
    for weight in weights:
        ggml.set(weight, packed, 0, weight_bytes)
        graph = ggml.new_graph(context)
        ggml.expand(graph, ggml.mul_mat(context, weight, x))
        graphs.append(graph)
    turn = itertools.cycle(graphs)

    def call():
        # Each computation puts its plan into a context; a fresh one keeps the other from filling up.
        scratch = ggml.init(InitParams(64 << 20, None, False))
        start = time.perf_counter()
        status = ggml.compute(scratch, next(turn), threads)
        elapsed = time.perf_counter() - start
        ggml.free(scratch)
        if status != 0:
            raise SystemExit(f"ggml gave up: {status}")
        return elapsed

    for _ in range(copies):
        once = call()
    calls = max(1, min(2000, int(seconds / 11 / once)))
    median = statistics.median(sum(call() for _ in range(calls)) / calls for _ in range(11))
    ggml.free(context)
    ggml.free(weights_context)
    ggml.free_buffer(buffer)
    return median * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 128])
    parser.add_argument("--types", nargs="+", choices=[name for name in TYPES if name != "F32"], default=["Q2_K", "Q4_0", "Q4_K"])
    parser.add_argument("--shapes", nargs="+", default=["4096x4096", "11008x4096"], help="inputs x outputs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repack", action="store_true", help="in ggml's own order")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    arguments = parser.parse_args()
    random.seed(1)
    ggml = Ggml(arguments.library)
    order = ", repacked" if arguments.repack else ""
    print(f"ggml with {', '.join(ggml.instructions())}{order}; {arguments.threads} threads; microseconds")
    for shape in arguments.shapes:
        k, n = (int(side) for side in shape.split("x"))
        for name in arguments.types:
            for rows in arguments.rows:
                time_of = measure(ggml, name, k, n, rows, arguments.threads, arguments.seconds, arguments.repack)
                print(f"{shape} M={rows} {name}: {time_of:.1f}", flush=True)


if __name__ == "__main__":
    main()
