#!/usr/bin/env python3
"""dyt beside torch eager, torch.compile, Liger and QuACK on one NVIDIA GPU, in one process and interleaved.

Prints one table for each dtype and writes each as JSON. README.md says what the columns are."""

import datetime
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "common"))

import files  # noqa: E402
import grid  # noqa: E402
import options as common  # noqa: E402
import report  # noqa: E402


def options(arguments):
    """The command line."""
    parser = common.parser(__doc__, ("f32", "bf16", "f16"))
    parser.add_argument("--library", type=pathlib.Path, default=HERE / "dist" / "libdyt.so")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="folder of the records")
    parser.add_argument("--device", type=int, default=0, help="ordinal of the GPU")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--quick", action="store_true", help="three shapes")
    parser.add_argument("--shapes", type=grid.shapes, help="ROWSxCOLS,... instead of the grid's")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    chosen = common.parsed(parser, arguments)
    if chosen.rounds < 1:
        parser.error("at least one round")
    return chosen


def driver():
    """The version of the driver, by nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error})"


def packed(library):
    """What pack.sh wrote about the library, or nothing where it was built by hand."""
    path = library.parent / "VERSION"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else "unknown"


def missing(library):
    """What a measurement needs and this machine lacks, or None."""
    if not library.is_file():
        return f"{library} is not there; pack.sh makes it"
    try:
        import torch
    except ImportError as error:
        return f"PyTorch does not import in {sys.executable} ({error})"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no CUDA device"
    return None


def measure_all(chosen, cells):
    """dtype -> its record. It is written after every cell, so that a run that is cut off leaves what it has."""
    # Only here, so that the rest works without torch.
    import torch

    import abi
    import contenders
    import measure
    import timing

    torch.cuda.set_device(chosen.device)
    # The inputs of a cell must not depend on tf32 or on what ran before.
    torch.backends.cuda.matmul.allow_tf32 = False
    stream = torch.cuda.Stream()
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "gpu": torch.cuda.get_device_name(), "driver": driver(), "torch": torch.__version__,
        "cuda": torch.version.cuda, "dyt": packed(chosen.library), "rounds": chosen.rounds,
        "seed": chosen.seed, "times": list(report.TIMES),
    }  # fmt: skip
    records = {}
    # Everything is on this one stream, building the graphs of autograd too: their backward runs where the forward did.
    with torch.cuda.stream(stream):
        clock = timing.Clock(stream)
        device = abi.Device(chosen.library, f"cuda:{chosen.device}")
        there, about["absent"] = contenders.found(device, not chosen.no_compile)
        last = None
        for number, cell in enumerate(cells, 1):
            if last != (cell.op, cell.rows, cell.cols, cell.dtype):
                # torch.compile falls back to eager, silently, after some recompilations of one function.
                torch._dynamo.reset()
                last = (cell.op, cell.rows, cell.cols, cell.dtype)
            print(f"[{number}/{len(cells)}] {cell}", file=sys.stderr, flush=True)
            record = records.setdefault(cell.dtype, {**about, "cells": []})
            record["cells"].append(measure.cell(cell, there, clock, chosen.rounds, chosen.seed))
            files.write(record, place(chosen, cell.dtype))
        stream.synchronize()
        device.close()
    return records


def place(chosen, dtype):
    """Where the record of a dtype goes."""
    return chosen.results / f"peers-{dtype}.json"


def main(arguments=None):
    """0, 1 if ours failed a check of its results, or 2 if nothing could be measured."""
    chosen = options(arguments)
    cells = grid.cells(chosen.quick, chosen.ops, chosen.dtypes, chosen.shapes)
    if chosen.list:
        print("\n".join(map(str, cells)))
        return 0
    lacking = missing(chosen.library)
    if lacking:
        print(f"peers.py: {lacking}", file=sys.stderr)
        return 2
    chosen.results.mkdir(parents=True, exist_ok=True)
    wrong = False
    for dtype, record in measure_all(chosen, cells).items():
        print(report.table(record))
        for name, why in record["absent"].items():
            print(f"absent: {name}: {why}")
        print(f"written: {place(chosen, dtype)}\n")
        wrong |= any(report.median(cell["contenders"].get("dyt"), "graph_us") is None for cell in record["cells"])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
