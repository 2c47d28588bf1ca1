#!/usr/bin/env python3
"""From records to the table that is printed, the tables of the documents and the figure.

    report.py              writes the documents and the figure anew from the newest records
    report.py JSON …       prints the tables of these records"""

import math
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]

import figure  # noqa: E402
import files  # noqa: E402
import machine  # noqa: E402
from cells import TITLES  # noqa: E402

FIGURE = ROOT / "docs" / "figures" / "cpu_peers.svg"
KINDS = {
    "cpu": "dyt through its C ABI beside torch, JAX and onnxruntime",
    "rust": "dyt beside candle, burn and rten",
}


def place(kind, threads, quick):
    """Where the record of a run goes."""
    if quick:
        return ROOT / "target" / "peers" / f"{kind}-{threads}t.json"
    date = machine.now()[:10]
    return ROOT / "benches" / "record" / f"{date}-{machine.processor()[1]}-peers-{kind}-{threads}t.json"


def newest(kind, threads, folder=None):
    """The path of the record in force, or None."""
    found = (folder or ROOT / "benches" / "record").glob(f"*-peers-{kind}-{threads}t.json")
    return max(found, key=lambda path: path.name, default=None)


def median(entry):
    """Microseconds of a call, or None of a contender that was not timed."""
    return entry[0] if isinstance(entry, list) else None


def quiet(cell):
    """Whether the copy took its usual time in enough rounds."""
    return cell["rejected"] is not None


def best(cell):
    """(name, time) of the fastest peer, or None where no peer could be timed."""
    times = {name: median(entry) for name, entry in cell["contenders"].items() if name != "dyt"}
    times = {name: time for name, time in times.items() if time is not None}
    return min(times.items(), key=lambda item: item[1]) if times else None


def ratio(cell):
    """(the fastest peer's time by ours, that peer), or None. Above 1 ours is faster."""
    ours, peer = median(cell["contenders"].get("dyt")), best(cell)
    return None if ours is None or peer is None else (peer[1] / ours, peer[0])


def _number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def _name(cell):
    return f"{cell['op']} {cell['pass']} {cell['rows']}x{cell['cols']} {cell['dtype']}"


def table(record):
    """Every contender of every cell, as aligned text."""
    header = ("cell", "contender", "us", "el/ns", "ours is", "note")
    body = []
    for cell in record["cells"]:
        ours = median(cell["contenders"].get("dyt"))
        for name, entry in cell["contenders"].items():
            time = median(entry)
            rate = None if time is None else cell["rows"] * cell["cols"] / time / 1e3
            faster = None if name == "dyt" or time is None or ours is None else time / ours
            note = entry if time is None else "" if quiet(cell) else "the machine was never quiet"
            body.append((
                _name(cell), name, _number(time), _number(rate), "-" if faster is None else f"{faster:.2f}x", note
            ))  # fmt: skip
    lines = [f"{record['processor']}, {record['device']}, threads {record['threads']}, {record['date']}"]
    lines += files.aligned(header, body)
    lines += [f"absent: {name}: {why}" for name, why in record["absent"].items()]
    if record["left_out"]:
        lines.append(f"left out for want of time: {len(record['left_out'])} cells, such as {record['left_out'][0]}")
    return "\n".join(lines)


def _grid(record):
    """(shapes in order of size, (op, pass, dtype) -> shape -> cell)."""
    rows = {}
    for cell in record["cells"]:
        rows.setdefault((cell["op"], cell["pass"], cell["dtype"]), {})[cell["rows"], cell["cols"]] = cell
    shapes = sorted({shape for row in rows.values() for shape in row}, key=lambda s: (s[0] * s[1], s[1]))
    return shapes, rows


def markdown_row(fields):
    """A row of a table in Markdown."""
    return f"| {' | '.join(fields)} |"


def threads(count):
    """In words."""
    return "one thread" if count == 1 else f"{count} threads"


def cells_table(record):
    """Markdown: our speed by that of the fastest peer, a row for each op, pass and type, a column for each shape."""
    shapes, rows = _grid(record)
    lines = [markdown_row(["op", "pass", "dtype", *(f"{r} × {c}" for r, c in shapes)]), "|" + "---|" * (3 + len(shapes))]
    for (op, pass_, dtype), row in rows.items():
        fields = [TITLES[op], pass_, dtype]
        for shape in shapes:
            found = ratio(row[shape]) if shape in row else None
            text = "–" if found is None else f"{found[0]:.2f} {found[1]}"
            if found and found[0] < 1:
                text = f"**{text}**"
            if shape in row and not quiet(row[shape]):
                text += " (?)"
            fields.append(text)
        lines.append(markdown_row(fields))
    return lines


def peers_table(record):
    """Markdown: our speed by that of each peer, the median over the shapes and the smallest."""
    _, rows = _grid(record)
    names = list(dict.fromkeys(name for cell in record["cells"] for name in cell["contenders"] if name != "dyt"))
    lines = [markdown_row(["op", "pass", "dtype", *names]), "|" + "---|" * (3 + len(names))]
    for (op, pass_, dtype), row in rows.items():
        fields = [TITLES[op], pass_, dtype]
        for name in names:
            pairs = [(median(c["contenders"].get(name)), median(c["contenders"].get("dyt"))) for c in row.values()]
            found = [peer / ours for peer, ours in pairs if peer is not None and ours is not None]
            fields.append(f"{statistics.median(found):.1f} ({min(found):.1f})" if found else "–")
        lines.append(markdown_row(fields))
    return lines


def reasons(record):
    """Markdown: who could not be timed, on what, and why, in the words of the run."""
    found = {}
    for cell in record["cells"]:
        for name, entry in cell["contenders"].items():
            if median(entry) is None:
                # How far off differs from shape to shape: the largest is told.
                why, by, off = entry.partition(" is off by ")
                where, offs = found.setdefault((name, why + by), ({}, []))
                where.setdefault(f"{TITLES[cell['op']]} {cell['pass']}", {})[cell["dtype"]] = None
                offs.append(off)
    lines = []
    for (name, why), (where, offs) in found.items():
        places = ", ".join(f"{place} {' '.join(dtypes)}" for place, dtypes in where.items())
        lines.append(f"- {name}, {places}: {why}{max(offs, key=lambda off: float(off or 0))}")
    return lines + [f"- {name}, everything: {why}" for name, why in record["absent"].items()]


def section(record, path):
    """Markdown of one record."""
    steady = sum(map(quiet, record["cells"]))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"### {KINDS[record['kind']]}, {threads(record['threads'])}", "",
        f"[{path.name}](../benches/record/{path.name}): {record['processor']}, `{record['device']}`, {versions}. "
        f"{steady} of {len(record['cells'])} cells on a quiet machine; {len(record['left_out'])} left out for want of time.",
        "", "Time of the fastest peer by ours, and that peer; below 1, in bold, the peer is faster; – has no peer:", "",
        *cells_table(record), "",
        "Time of each peer by ours, the median over the shapes and in brackets the smallest:", "",
        *peers_table(record), "",
    ]  # fmt: skip
    why = reasons(record)
    return lines + (["Not timed, and why:", "", *why, ""] if why else [])


def headline(record):
    """One sentence for the README: medians over all shapes of f32."""
    _, rows = _grid(record)
    parts = []
    for op, title in TITLES.items():
        both = []
        for pass_ in ("forward", "backward"):
            found = [ratio(cell) for cell in rows.get((op, pass_, "f32"), {}).values()]
            found = [value[0] for value in found if value]
            both.append(f"{statistics.median(found):.1f}" if found else "–")
        parts.append(f"{title} {both[0]} and {both[1]}")
    below = [value for value in map(ratio, record["cells"]) if value]
    losing = sum(value[0] < 1 for value in below)
    return (
        f"Time of the fastest of torch eager, torch.compile, JAX and onnxruntime by ours, forward and backward in f32, "
        f"median over the shapes: {', '.join(parts)}. A peer is faster in {losing} of {len(below)} cells of the run."
    )


def between(text, name, lines):
    """The text with `lines` between the marks of `name`. The opening mark has to be there; the closing one is made."""
    out, opening, closing = text.splitlines(), f"<!-- {name}:", f"<!-- /{name} -->"
    begin = next((i for i, line in enumerate(out) if line.startswith(opening)), None)
    if begin is None:
        raise ValueError(f"no line begins with '{opening}'")
    end = next((i for i, line in enumerate(out) if line == closing), begin)
    return "\n".join([*out[: begin + 1], *lines, closing, *out[end + 1 :]]) + "\n"


def draw(record):
    """Writes the figure of one record."""
    points = {}
    for cell in record["cells"]:
        found = ratio(cell)
        if found and math.isfinite(found[0]):
            points.setdefault((cell["op"], cell["pass"], cell["dtype"]), []).append((found[0], _name(cell), found[1]))
    subtitle = f"{record['processor']}, {record['device']}, threads: {record['threads']}, {record['date'][:10]}"
    files.replace(FIGURE, figure.svg(points, subtitle))


def documents():
    """Writes docs/performance.md, README.md and the figure from the newest records."""
    lines = []
    for kind in KINDS:
        for threads in (1, 2):
            path = newest(kind, threads)
            if path is not None:
                lines += section(files.load(path), path)
    page = ROOT / "docs" / "performance.md"
    if lines:
        files.replace(page, between(page.read_text(encoding="utf-8"), "peers", ["", *lines[:-1]]))
        print(f"written: {page}")
    path = newest("cpu", 1)
    if path is not None:
        record, page = files.load(path), ROOT / "README.md"
        draw(record)
        image = "![Speed of dyt by that of the fastest peer, for each op, pass and shape](docs/figures/cpu_peers.svg)"
        text = between(page.read_text(encoding="utf-8"), "peers", ["", image, "", *wrapped(headline(record))])
        files.replace(page, text)
        print(f"written: {FIGURE}\nwritten: {page}")


def wrapped(text, width=120):
    """Lines of at most so many characters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def main(arguments):
    """0."""
    if not arguments:
        documents()
    for path in map(pathlib.Path, arguments):
        print(table(files.load(path)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
