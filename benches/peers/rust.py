#!/usr/bin/env python3
"""dyt beside candle, burn and rten on the CPU, in one process: builds the workspace in `rust` and asks it for cells.

Prints a table and writes JSON; a whole run writes the record and the tables of docs/performance.md, too. It needs cargo
and nothing of PyPI."""

import json
import pathlib
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]

import cells  # noqa: E402
import cpu_grid  # noqa: E402
import session  # noqa: E402

CRATE = HERE / "rust"
TARGET = HERE.parents[1] / "target" / "peers" / "rust"
PACKAGES = ("candle-core", "burn", "rten-vecmath")


def build():
    """The binary."""
    command = ["cargo", "build", "--release", "--locked", "--target-dir", str(TARGET)]
    subprocess.run(command, cwd=CRATE, check=True)
    return TARGET / "release" / "dyt-peers"


def versions():
    """Of the peers, as the lock file has them."""
    lock = tomllib.loads((CRATE / "Cargo.lock").read_text(encoding="utf-8"))
    return {p["name"]: p["version"] for p in lock["package"] if p["name"] in PACKAGES}


def request(group, chosen):
    """A line that asks for a group of cells."""
    first = group[0]
    return json.dumps({
        "op": first.op, "dtype": first.dtype, "rows": first.rows, "cols": first.cols,
        "passes": [cell.pass_ for cell in group], "eps": cells.EPS[first.op], "alpha": cells.ALPHA,
        "shift": cells.SHIFT, "seed": chosen.seed, "close": cpu_grid.CLOSE[first.dtype], "batch": cpu_grid.BATCH,
        "total": cpu_grid.TOTAL[chosen.quick], "rounds": cpu_grid.ROUNDS[chosen.quick],
    })  # fmt: skip


def answer(cell, line):
    """The record of a cell from a line of the binary."""
    if not line:
        raise RuntimeError(f"the process ended at {cell}")
    found = json.loads(line)
    if found["pass"] != cell.pass_:
        raise ValueError(f"asked for {cell}, told of {found['pass']}")
    errors = {name: entry["error"] for name, entry in found["contenders"].items()}
    samples = {name: entry["ns"] for name, entry in found["contenders"].items() if entry["error"] is None}
    return session.cell_record(cell, found["copy"], errors, samples)


def start(chosen, binary):
    """What the record says of the contenders, and the function that measures a group."""
    worker = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    device = json.loads(worker.stdout.readline())["device"]

    def measure(group):
        print(request(group, chosen), file=worker.stdin, flush=True)
        return [answer(cell, worker.stdout.readline()) for cell in group]

    return {"device": device, "versions": versions(), "absent": {}}, measure


def main(arguments=None):
    """The exit status."""
    chosen = session.options(session.parser(__doc__), arguments)
    # With all processors; measuring has only its own.
    binary = None if chosen.list else build()
    return session.run("rust", chosen, lambda: start(chosen, binary))


if __name__ == "__main__":
    sys.exit(main())
