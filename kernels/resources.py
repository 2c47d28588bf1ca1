#!/usr/bin/env python3
"""Assembles the PTX for every architecture of the table and says what each kernel takes of a multiprocessor.

    target/cuda-tools/bin/python kernels/resources.py            # rewrites the table in kernels/README.md
    target/cuda-tools/bin/python kernels/resources.py --check    # writes nothing, fails if the table is stale
    target/cuda-tools/bin/python kernels/resources.py --nvcc     # nvcc's PTX of the same sources instead; no table

It fails on spills, on local memory and above a kernel's ceiling of registers. See make_ptx.py for the environment.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia/cu13/bin"
# The architecture that assembles, and the newest prebuilt PTX that it takes.
TARGETS = {75: 75, 80: 80, 90: 90, 100: 90, 120: 90}
# Of one multiprocessor, where occupancy is in the table: warps, blocks, bytes of shared memory.
LIMITS = {75: (32, 16, 65536), 80: (64, 32, 167936), 90: (64, 32, 233472)}
REGISTERS = 65536
BEGIN, END = "<!-- resources: begin -->", "<!-- resources: end -->"
# The most registers that a kernel may take, by what its name matches: the first that fits. They keep enough warps on a
# multiprocessor to cover the latency of memory at the block sizes of the plans.
CEILINGS = (
    (r"dyt_(dyt|derf)_fwd_.*_scalar", 40),
    (r"dyt_(dyt|derf)_fwd_", 64),
    (r"dyt_(dyt|derf)_bwd_.*_scalar", 48),
    (r"dyt_(dyt|derf)_bwd_", 80),
    (r"dyt_(layer|rms)_norm_.*_long_", 80),
    (r"dyt_(layer|rms)_norm_fwd_", 64),
    (r"dyt_(layer|rms)_norm_bwd_", 128),
    (r"", 64),
)

Use = collections.namedtuple("Use", "registers shared stack spills")


def ceiling(name):
    return next(limit for pattern, limit in CEILINGS if re.match(pattern, name))


def threads(ptx):
    """The largest block of each entry, which __launch_bounds__ left in the PTX."""
    found = re.findall(r"\.entry\s+(\w+)\s*\([^)]*\)\s*((?:\.\w+[^{\n]*\n)*)", ptx)
    sizes = {}
    for name, directives in found:
        bound = re.search(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", directives)
        sizes[name] = 1
        for part in bound.groups() if bound else ("1024",):
            sizes[name] *= int(part or 1)
    return sizes


def assemble(file, architecture):
    """What ptxas says of each entry of a file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [TOOLS / "ptxas", "-v", f"-arch=sm_{architecture}", file, "-o", f"{folder}/out.cubin"]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"ptxas -arch=sm_{architecture} {file}:\n{run.stderr}")
    uses = {}
    for part in re.split(r"Compiling entry function ", run.stderr)[1:]:
        name = re.match(r"'(\w+)'", part)[1]
        frame = [int(n) for n in re.search(r"(\d+) bytes stack frame, (\d+) .*stores, (\d+)", part).groups()]
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = re.search(r"(\d+) bytes smem", part)
        uses[name] = Use(registers, int(shared[1]) if shared else 0, frame[0], frame[1] + frame[2])
    return uses


def nvcc(source, architecture, folder):
    """Compiles a source by nvcc, with the options of build/cuda.rs."""
    out = pathlib.Path(folder) / f"sm_{architecture}" / source.with_suffix(".ptx").name
    command = [TOOLS / "nvcc", "--ptx", "--std=c++17", f"-arch=compute_{architecture}", source, "-o", out]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"nvcc {source}:\n{run.stderr}")
    if run.stderr.strip():
        print(run.stderr, file=sys.stderr)


def nvcc_ptx(folder, pool):
    """Compiles every source by nvcc for what the library embeds: each architecture that ends up in TARGETS."""
    architectures = sorted(set(TARGETS.values()))
    for architecture in architectures:
        (pathlib.Path(folder) / f"sm_{architecture}").mkdir()
    jobs = [pool.submit(nvcc, s, a, folder) for a in architectures for s in sorted(HERE.glob("*.cu"))]
    for job in jobs:
        job.result()
    return pathlib.Path(folder)


def launches():
    """The threads of a block of each kernel and its dynamic shared memory on the architectures of LIMITS, by the plans."""
    command = ["cargo", "run", "--quiet", "--locked", "--example", "cuda_launches", "--no-default-features",
               "--features", "cuda"]
    # Plans take no time, and an optimised build minutes.
    environment = {**os.environ, "CARGO_PROFILE_DEV_OPT_LEVEL": "0"}
    run = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, env=environment)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}:\n{run.stderr}")
    lines = (line.split() for line in run.stdout.splitlines())
    return {name: [int(n) for n in numbers] for name, *numbers in lines}


def occupancy(use, block, dynamic, architecture):
    """Warps that are there at once, of those that could be, as registers and shared memory allow."""
    warps, blocks, shared = LIMITS[architecture]
    of_block = -(-block // 32)
    # Registers are given out to warps in lots of 256, to four partitions.
    per_warp = -(-use.registers * 32 // 256) * 256
    by_registers = REGISTERS // 4 // per_warp * 4 // of_block
    # From 8.0 on each block takes 1 KiB of shared memory more, for the system.
    by_shared = shared // max(1, use.shared + dynamic + (1024 if architecture >= 80 else 0))
    return min(blocks, warps // of_block, by_registers, by_shared) * of_block / warps


def gather(ptx, pool):
    """{architecture: {entry: Use}}, and {entry: largest block}, of a folder that has one of PTX for each architecture."""
    folders = {a: ptx / f"sm_{source}" for a, source in TARGETS.items()}
    folders = {a: folder for a, folder in folders.items() if folder.is_dir()}
    uses, blocks = {a: {} for a in folders}, {}
    jobs = [(a, f) for a, folder in folders.items() for f in folder.glob("*.ptx")]
    # The longest first, so that no core is left with one of them at the end.
    jobs.sort(key=lambda job: job[1].stat().st_size, reverse=True)
    for (architecture, file), found in zip(jobs, pool.map(lambda job: assemble(job[1], job[0]), jobs)):
        uses[architecture].update(found)
        blocks.update(threads(file.read_text()))
    return uses, blocks


def complaints(uses):
    for architecture, entries in uses.items():
        for name, use in sorted(entries.items()):
            if use.spills or use.stack:
                yield f"{name} on sm_{architecture}: {use.spills} bytes of spills, {use.stack} of stack"
            if use.registers > ceiling(name):
                yield f"{name} on sm_{architecture}: {use.registers} registers, at most {ceiling(name)} allowed"


def table(uses, blocks):
    plans = launches()
    head = "".join(f" sm_{a} |" for a in uses)
    lines = [f"| kernel | threads |{head} ceiling | shared, KiB | occupancy on 7.5, 8.0, 9.0 |",
             f"|---|---|{'---|' * len(uses)}---|---|---|"]
    for name in sorted(blocks):
        block, *dynamic = plans[name]
        if block > blocks[name]:
            sys.exit(f"{name}: the plan launches {block} threads, and __launch_bounds__ allows {blocks[name]}")
        registers = "".join(f" {uses[a][name].registers} |" for a in uses)
        shared = [uses[a][name].shared + d for a, d in zip(LIMITS, dynamic)]
        kib = ", ".join(f"{bytes / 1024:.4g}" for bytes in (shared if len(set(shared)) > 1 else shared[:1]))
        full = ", ".join(f"{100 * occupancy(uses[a][name], block, d, a):.0f} %" for a, d in zip(LIMITS, dynamic))
        lines.append(f"| `{name}` | {block} |{registers} {ceiling(name)} | {kib} | {full} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare the table instead of writing it")
    parser.add_argument("--nvcc", action="store_true", help="compile the sources by nvcc, and write no table")
    parser.add_argument("--ptx", type=pathlib.Path, default=HERE / "ptx", help="the folder of PTX (kernels/ptx)")
    parser.add_argument("--print", action="store_true", help="print the table and write nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        uses, blocks = gather(nvcc_ptx(folder, pool) if arguments.nvcc else arguments.ptx, pool)
    bad = list(complaints(uses))
    if not blocks:
        sys.exit(f"{arguments.ptx} has no PTX")
    if arguments.print:
        print(table(uses, blocks))
    elif not arguments.nvcc and not bad:
        readme = HERE / "README.md"
        text = readme.read_text()
        before, rest = text.split(BEGIN)
        made = f"{before}{BEGIN}\n{table(uses, blocks)}\n{END}{rest.split(END)[1]}"
        if arguments.check and made != text:
            bad.append("the table in kernels/README.md is stale: run kernels/resources.py")
        elif made != text:
            readme.write_text(made)
    most = {a: max(u.registers for u in e.values()) for a, e in uses.items()}
    print(f"{len(blocks)} kernels on {', '.join(f'sm_{a}' for a in uses)}; registers at most {most}")
    if bad:
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    main()
