#!/usr/bin/env python3
"""From a record of `dyt bench --json` to the tables of docs/performance.md.

    own.py RECORD       writes the section "Results" of docs/performance.md anew"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]

import files  # noqa: E402
import report  # noqa: E402
from cells import OPS, PASSES, TITLES  # noqa: E402

PAGE = report.ROOT / "docs" / "performance.md"
# Cells that move at most so many bytes are told of as in the caches, in elements by nanosecond; the others as a part of a copy.
CACHED = 8 << 20
DTYPES = ("f32", "bf16")
BASELINE = {"forward": "NT copy", "backward": "NT triad"}


def baseline(cell):
    """ns of the copy or triad with streaming stores."""
    return cell["baselines"]["nt_copy" if cell["pass"] == "forward" else "nt_triad"][0]


def speed(cell, op):
    """Elements by nanosecond and thread."""
    return cell["rows"] * cell["cols"] / cell["ops"][op][0] / cell["threads"]


def figures(cell, cached):
    """The fields of a row behind its shape and type."""
    values = [speed(cell, op) if cached else baseline(cell) / cell["ops"][op][0] for op in OPS]
    ratio = cell["ops"]["dyt"][0] / cell["ops"]["layer_norm"][0]
    fields = [f"{value:.{1 if cached and value >= 1 else 2}f}" for value in values] + [f"{ratio:.2f}"]
    if not cell["steady"]:
        fields[0] += " (?)"
    return fields


def table(cells, cached, lead=()):
    """The lines of a table; `lead` names what stands before the shape."""
    header = [*lead, "shape", "dtype", *(TITLES[op] for op in OPS), "DyT ÷ LayerNorm"]
    yield report.markdown_row(header)
    yield "|" + "---|" * len(header)
    for cell in cells:
        place = {"level": f"`{level(cell['device'])}`", "pass": cell["pass"]}
        shape = f"{cell['rows']} × {cell['cols']}"
        yield report.markdown_row([*(place[name] for name in lead), shape, cell["dtype"], *figures(cell, cached)])


def level(device):
    """The part of a device's name behind the colon."""
    return device.partition(":")[2]


def tables(cells, name):
    """The tables of one device and pass, by threads, in the caches and in memory; `name` is the baseline's."""
    lines = []
    for count in sorted({cell["threads"] for cell in cells}):
        each = "" if count == 1 else " of a thread"
        for cached, title in ((True, f"In the caches, %s, elements/ns{each}:"), (False, f"In memory, %s, fraction of the {name}:")):
            some = [cell for cell in cells if cell["threads"] == count and (cell["bytes"] <= CACHED) == cached]
            if some:
                lines += [title % report.threads(count), "", *table(some, cached), ""]
    return lines


def section(record, name):
    """The lines of the section."""
    cells = [cell for cell in record["cells"] if cell["dtype"] in DTYPES]
    full = [device["device"] for device in record["devices"] if device["in_full"]]
    lines = [
        *report.wrapped(
            f"[{name}](../benches/record/{name}), written by [own.py](../benches/peers/own.py): {record['machine']['processor']}, "
            f"{record['date'][:10]}. A ratio of DyT to LayerNorm is one of times: above 1 DyT is the slower. (?) stands where "
            "the machine was not quiet. f16 is in the record."
        ),
        "",
    ]
    for device in full:
        for pass_ in PASSES:
            chosen = [cell for cell in cells if cell["device"] == device and cell["pass"] == pass_]
            lines += [f"### {pass_.capitalize()}, `{level(device)}`", ""]
            lines += tables(chosen, BASELINE[pass_])
    rest = [cell for cell in cells if cell["device"] not in full]
    if rest:
        names = " and ".join(f"`{name}`" for name in dict.fromkeys(level(cell["device"]) for cell in rest))
        lines += [f"### {names}, on the same processor", "", "One thread, elements/ns:", ""]
        lines += [*table([cell for cell in rest if cell["threads"] == 1], True, ("level", "pass")), ""]
    return lines[:-1]


def main(arguments):
    """0."""
    (path,) = map(pathlib.Path, arguments)
    text = PAGE.read_text(encoding="utf-8")
    files.replace(PAGE, report.between(text, "results", section(json.loads(path.read_text(encoding="utf-8")), path.name)))
    print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
