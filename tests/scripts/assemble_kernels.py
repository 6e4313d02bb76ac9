#!/usr/bin/env python3
"""Assembles the kernels that the tests of the feature `offline` write, with NVIDIA's ptxas, and tabulates what they take.

    EQAT_PTX=DIR cargo test -p burn-eqat-kernels --features offline --lib -- offline
    tests/scripts/assemble_kernels.py DIR [--ptxas PATH] [--only TEXT]

Registers are of a unit (thread). Occupancy is the share of a multiprocessor's units that registers, shared memory and the cube's
size leave. Spilled are the bytes of all stores and loads of registers that did not fit. ptxas spills a few of what a loop does not
need, to have room for one more cube; more of them is a failure. ptxas is in the package nvidia-cuda-nvcc-cu12 of PyPI.
"""

import argparse
import math
import pathlib
import re
import subprocess
import sys
import tempfile

# Bytes that may be spilled: four registers, written once and read once.
SPILLED = 32

# Of a multiprocessor: units, cubes, registers, and bytes of shared memory (1 KiB a cube is the system's).
LIMITS = {"sm_80": (2048, 32, 65536, 164 << 10), "sm_90": (2048, 32, 65536, 228 << 10)}


def occupancy(arch, units, registers, shared):
    most, cubes, all_registers, all_shared = LIMITS[arch]
    # Registers are given out for a plane of 32 units, in steps of 256.
    planes = -(-units // 32)
    plane = -(-registers * 32 // 256) * 256
    fit = min(cubes, most // units, all_registers // (plane * planes), all_shared // (shared + 1024))
    return fit * units / most


def assemble(ptxas, path):
    """Facts of a kernel: its name, numbers from the test, registers and spilled bytes."""
    text = path.read_text()
    facts = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text.split("\n", 1)[0])}
    target = re.search(r"^\.target (\S+)", text, re.M)[1].rstrip(",")
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(
            [ptxas, "-v", "-arch", target, path, "-o", out.name], capture_output=True, text=True
        )
    said = done.stdout + done.stderr
    if done.returncode:
        sys.exit(f"{path}: {said}")
    facts["units"] = math.prod(map(int, re.search(r"^\.reqntid (.*)", text, re.M)[1].split(",")))
    facts["registers"] = int(re.search(r"Used (\d+) registers", said)[1])
    facts["spilled"] = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    facts["arch"], facts["name"] = path.stem.split("-", 1)
    return facts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--ptxas", default="ptxas")
    parser.add_argument("--only", default="", help="kernels with this text in their files' names")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.dir.glob("*.ptx") if arguments.only in path.name)
    if not paths:
        sys.exit(f"{arguments.dir}: no kernels, expected files that end with .ptx")
    print("| kernel | units | instructions | 16-byte loads | matrix | shared memory | registers | spilled | occupancy |")
    print("|---|---|---|---|---|---|---|---|---|")
    spilled = 0
    for path in paths:
        facts = assemble(arguments.ptxas, path)
        share = occupancy(facts["arch"], facts["units"], facts["registers"], facts["shared"])
        spilled += facts["spilled"] > SPILLED
        print(
            "| {arch} {name} | {units} | {instructions} | {wide_loads} | {matrix} | {shared} | {registers} | {spilled} |".format(**facts),
            f"{share:.0%} |",
        )
    if spilled:
        sys.exit(f"{spilled} of {len(paths)} kernels spill more than {SPILLED} bytes of registers")


if __name__ == "__main__":
    main()
