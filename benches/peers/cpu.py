#!/usr/bin/env python3
"""dyt through its C ABI beside torch eager, torch.compile, JAX and onnxruntime on the CPU, in one process.

Prints a table and writes JSON; a whole run writes the record, the figure and the tables of the documents, too.
README.md says how to run it: run.sh makes the environment."""

import argparse
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]

import cells  # noqa: E402
import cpu_grid  # noqa: E402
import files  # noqa: E402
import machine  # noqa: E402
import report  # noqa: E402

PACKAGES = ("torch", "jax", "jaxlib", "onnxruntime", "numpy")
BUDGET = {False: 1140, True: 160}


def options(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=pathlib.Path, required=True, help="libdyt.so")
    parser.add_argument("--quick", action="store_true", help="two shapes, for a look: writes no document")
    parser.add_argument("--json", type=pathlib.Path, help="where to write [default: a record; target/peers if --quick]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="such as cpu:avx2")
    parser.add_argument("--budget", type=float, help="seconds after which no further group of cells is begun")
    parser.add_argument("--ops", default=",".join(cells.OPS))
    parser.add_argument("--dtypes", default=",".join(cpu_grid.DTYPES))
    parser.add_argument("--peers", help="only these: eager,compile,jax,onnxruntime")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print the cells and do nothing")
    chosen = parser.parse_args(arguments)
    chosen.ops, chosen.dtypes = chosen.ops.split(","), chosen.dtypes.split(",")
    chosen.peers = chosen.peers.split(",") if chosen.peers else None
    for name in set(chosen.ops) - set(cells.OPS):
        parser.error(f"no op is called {name}")
    for name in set(chosen.dtypes) - set(cpu_grid.DTYPES):
        parser.error(f"no dtype of this comparison is called {name}")
    if not 1 <= chosen.threads <= os.cpu_count():
        parser.error(f"threads are 1 to {os.cpu_count()} here")
    chosen.budget = BUDGET[chosen.quick] if chosen.budget is None else chosen.budget
    return chosen


def hold_to(threads):
    """Gives the whole process so many processors, and each library's own pool as many threads. Before any of them is
    imported: they look once."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["CUDA_VISIBLE_DEVICES"], os.environ["JAX_PLATFORMS"] = "", "cpu"


def measure_all(chosen, groups, path):
    """The record of a run. It is written after every group, so that a run that is cut off leaves what it has."""
    begin = time.monotonic()
    hold_to(chosen.threads)
    import abi
    import contenders
    import measure

    device = abi.Device(chosen.library, chosen.device)
    there, absent = contenders.found(device, chosen.threads, chosen.peers)
    if "eager" in there:
        import torch

        torch.set_num_threads(chosen.threads)
    record = {
        "format": report.FORMAT, "kind": "cpu", "date": machine.now(), "mode": "quick" if chosen.quick else "full",
        "processor": machine.processor()[0], "device": device.name(), "threads": chosen.threads,
        "commit": machine.commit(), "versions": machine.versions(PACKAGES), "seed": chosen.seed,
        "absent": absent, "left_out": [], "cells": [],
    }  # fmt: skip
    for number, group in enumerate(groups, 1):
        if time.monotonic() - begin > chosen.budget:
            record["left_out"] += [str(cell) for cell in group]
            continue
        print(f"[{number}/{len(groups)}] {time.monotonic() - begin:.0f} s {group[0]}", file=sys.stderr, flush=True)
        record["cells"] += measure.group(group, there, chosen.seed, chosen.quick)
        files.write(record, path)
    record["seconds"] = round(time.monotonic() - begin)
    files.write(record, path)
    device.close()
    return record


def main(arguments=None):
    """0, or 1 if ours failed a check of its results."""
    chosen = options(arguments)
    groups = cpu_grid.groups(chosen.quick, chosen.ops, chosen.dtypes)
    if chosen.list:
        print("\n".join(str(cell) for group in groups for cell in group))
        return 0
    path = chosen.json or report.place("cpu", chosen.threads, chosen.quick)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = measure_all(chosen, groups, path)
    print(report.table(record))
    print(f"written: {path}")
    if not chosen.quick and chosen.json is None:
        report.documents()
    wrong = [c for c in record["cells"] if c["contenders"].get("dyt", {"error": "absent"})["error"]]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
