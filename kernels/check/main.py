#!/usr/bin/env python3
"""Assembles the PTX for every architecture, and says what each kernel takes.

    target/cuda-tools/bin/python kernels/check/main.py             # compares with kernels/registers.csv and counts.csv
    target/cuda-tools/bin/python kernels/check/main.py --write     # writes them
    target/cuda-tools/bin/python kernels/check/main.py --nvcc      # nvcc's PTX of the same sources; compares nothing

It fails on spills, on local memory, above a kernel's ceiling of registers, where a plan launches more threads than a
kernel allows, where registers.csv is stale, and where a lane issues 2 % more instructions than counts.csv has. See
make_ptx.py for the environment.
"""

import argparse
import concurrent.futures
import csv
import gzip
import io
import os
import pathlib
import sys

import counts
import registers
import toolchain
from launches import launches

KERNELS = pathlib.Path(__file__).resolve().parents[1]
# The architectures that are assembled for: one of each kind of multiprocessor that the PTX runs on.
TARGETS = (75, 80, 90, 100, 120)
# The one that nvcc compiles for. That the sources compile for each, NVRTC shows; nvcc shows that a recent compiler takes
# them, and the code for sm_80 is what the newer GPUs run.
NVCC = 80


def prebuilt():
    """[(architecture to assemble for, PTX)]: of each source the newest that the architecture runs."""
    found = {}
    for path in sorted((KERNELS / "ptx").glob("*.ptx.gz")):
        source, architecture = path.name.removesuffix(".ptx.gz").split(".sm_")
        found.setdefault(source, {})[int(architecture)] = path
    jobs = []
    for of_source in found.values():
        for target in TARGETS:
            best = max((a for a in of_source if a <= target), default=None)
            if best is not None:
                jobs.append((target, gzip.decompress(of_source[best].read_bytes()).decode()))
    return jobs


def assembled(jobs, pool):
    """{architecture: {kernel: Use}}, and what nvdisasm prints for the architecture that is counted."""
    # The longest first, so that no core is left with one of them at the end.
    jobs.sort(key=lambda job: len(job[1]), reverse=True)
    found = pool.map(lambda job: toolchain.assemble(job[1], job[0], job[0] == counts.ARCHITECTURE), jobs)
    uses, listings = {target: {} for target in sorted({target for target, _ in jobs})}, []
    for (target, _), (of_file, listing) in zip(jobs, found):
        uses[target].update(of_file)
        if listing is not None:
            listings.append(listing)
    return uses, listings


def text_of(table):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    return out.getvalue()


def compare(uses, listings, most, write):
    """Writes the two files, or says what is wrong with them."""
    known = launches()
    bad = list(registers.too_large(known, most))
    files = {"registers.csv": text_of(registers.table(uses, known)), "counts.csv": text_of(counts.table(listings, known))}
    if write:
        for name, text in files.items():
            (KERNELS / name).write_text(text)
        return bad
    if files["registers.csv"] != (KERNELS / "registers.csv").read_text():
        bad.append("kernels/registers.csv is stale: run .ci/cuda --write")
    before = list(csv.reader(io.StringIO((KERNELS / "counts.csv").read_text())))
    return bad + list(counts.complaints(before, list(csv.reader(io.StringIO(files["counts.csv"])))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    parser.add_argument("--nvcc", action="store_true", help="compile the sources by nvcc, and compare no file")
    arguments = parser.parse_args()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        if arguments.nvcc:
            texts = pool.map(lambda source: toolchain.nvcc(source, NVCC), sorted(KERNELS.glob("*.cu")))
            jobs = [(counts.ARCHITECTURE, text) for text in texts]
        else:
            jobs = prebuilt()
        uses, listings = assembled(jobs, pool)
    bad = list(registers.complaints(uses))
    if not arguments.nvcc:
        most = {}
        for _, ptx in jobs:
            most.update(registers.threads(ptx))
        bad += compare(uses, listings, most, arguments.write)
    highest = {architecture: max(use.registers for use in of.values()) for architecture, of in uses.items()}
    print(f"{len(next(iter(uses.values())))} kernels; registers at most, by architecture: {highest}")
    if bad:
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    main()
