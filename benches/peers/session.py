"""A run of a comparison: its options, its loop over groups of cells, and the record that it leaves."""

import os
import pathlib
import sys
import time

import cpu_grid
import files
import machine
import options as common
import report
import stats

BUDGET = {False: 1140, True: 160}


def parser(description):
    """The options that every comparison on the CPU has."""
    made = common.parser(description, cpu_grid.DTYPES)
    made.add_argument("--quick", action="store_true", help="two shapes, for a look: writes no document")
    made.add_argument("--json", type=pathlib.Path, help="where to write [default: a record; target/peers if --quick]")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--budget", type=float, help="seconds after which no further group of cells is begun")
    return made


def options(made, arguments):
    """The command line, checked."""
    chosen = common.parsed(made, arguments)
    if not 1 <= chosen.threads <= os.cpu_count():
        made.error(f"threads are 1 to {os.cpu_count()} here")
    chosen.budget = BUDGET[chosen.quick] if chosen.budget is None else chosen.budget
    return chosen


def hold_to(threads):
    """Gives the whole process, and those that it starts, so many processors, and each library's own pool as many
    threads. Before any of them is imported: they look once."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)


def cell_record(cell, baseline, errors, samples):
    """The record of a cell: median and quartiles, in microseconds, of the rounds in which the copy took its usual time;
    of all rounds, with null for the number of rejected ones, where the machine was never quiet. `errors` says of each
    contender why it was not timed, if it was not; `samples` has the nanoseconds of those that were."""
    kept = stats.steady_rounds(baseline)
    chosen = [True] * len(baseline) if kept is None else kept

    def of(values):
        return stats.summary([value / 1e3 for value, steady in zip(values, chosen) if steady])

    return {
        "op": cell.op, "pass": cell.pass_, "rows": cell.rows, "cols": cell.cols, "dtype": cell.dtype,
        "rounds": len(baseline), "rejected": None if kept is None else kept.count(False), "copy": of(baseline),
        "contenders": {**errors, **{name: of(values) for name, values in samples.items()}},
    }  # fmt: skip


def run(kind, chosen, start):
    """0, or 1 if ours failed a check of its results. `start` gives what the record says of the contenders, and a
    function from a group of cells to their records."""
    groups = cpu_grid.groups(chosen.quick, chosen.ops, chosen.dtypes)
    if chosen.list:
        print("\n".join(str(cell) for group in groups for cell in group))
        return 0
    path = chosen.json or report.place(kind, chosen.threads, chosen.quick)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = _measured(kind, chosen, groups, path, start)
    print(report.table(record))
    print(f"written: {path}")
    if not chosen.quick and chosen.json is None:
        report.documents()
    wrong = [c for c in record["cells"] if report.median(c["contenders"].get("dyt")) is None]
    return 1 if wrong else 0


def _measured(kind, chosen, groups, path, start):
    """It is written after every group, so that a run that is cut off leaves what it has."""
    begin = time.monotonic()
    hold_to(chosen.threads)
    about, measure = start()
    record = {
        "kind": kind, "date": machine.now(), "mode": "quick" if chosen.quick else "full",
        "processor": machine.processor()[0], "threads": chosen.threads, "commit": machine.commit(),
        "seed": chosen.seed, **about, "unit": "us", "left_out": [], "cells": [],
    }  # fmt: skip
    for number, group in enumerate(groups, 1):
        if time.monotonic() - begin > chosen.budget:
            record["left_out"] += [str(cell) for cell in group]
            continue
        print(f"[{number}/{len(groups)}] {time.monotonic() - begin:.0f} s {group[0]}", file=sys.stderr, flush=True)
        record["cells"] += measure(group)
        files.write(record, path)
    record["seconds"] = round(time.monotonic() - begin)
    files.write(record, path)
    return record
