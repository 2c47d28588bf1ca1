"""Records as files, and tables as text."""

import json

# Of the layout of a file; a change that an old reader would misread makes it larger.
FORMAT = 2
# Digits of a time that a record keeps: more than repeats from one run to the next.
DIGITS = 5


def write(record, path):
    """Writes a record whole or not at all: a line for each fact of the run, then a line for each cell. A cell's line has
    the values of `columns`, then those of `contenders`; null stands for a contender that the cell has not, and a name
    from `reasons` for what was not timed. NaN is refused, as no reader of JSON has to know it."""
    cells, reasons = record["cells"], {}
    contenders = list(dict.fromkeys(name for cell in cells for name in cell["contenders"]))
    columns = [name for name in cells[0] if name != "contenders"] if cells else []
    rows = [
        [cell[name] for name in columns] + [_shortened(cell["contenders"].get(name), reasons) for name in contenders]
        for cell in cells
    ]
    facts = {"format": FORMAT, **record, "columns": columns, "contenders": contenders, "reasons": reasons}
    del facts["cells"]
    reasons = {short: why for why, short in reasons.items()}
    lines = [f"{json.dumps(name)}: {_text(reasons if name == 'reasons' else value)}," for name, value in facts.items()]
    body = ",\n".join(map(_text, rows))
    replace(path, "\n".join(["{", *lines, '"cells": [', body, "]", "}", ""]))


def load(path):
    """A record that `write` has written."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("format") != FORMAT:
        raise ValueError(f"{path} has not format {FORMAT}")
    columns, contenders, reasons = (record.pop(name) for name in ("columns", "contenders", "reasons"))
    cells = []
    for row in record["cells"]:
        values = (_lengthened(value, reasons) for value in row[len(columns) :])
        timed = {name: value for name, value in zip(contenders, values, strict=True) if value is not None}
        cells.append({**dict(zip(columns, row)), "contenders": timed})
    return {**record, "cells": cells}


def _shortened(value, reasons):
    """A contender's value with a short name in place of each reason. `reasons` learns the names."""
    if isinstance(value, str):
        return reasons.setdefault(value, f"r{len(reasons)}")
    return [_shortened(part, reasons) for part in value] if isinstance(value, list) else value


def _lengthened(value, reasons):
    if isinstance(value, str):
        return reasons[value]
    return [_lengthened(part, reasons) for part in value] if isinstance(value, list) else value


def _text(value):
    return json.dumps(_rounded(value), separators=(",", ":"), allow_nan=False)


def _rounded(value):
    """The value with its times to so many digits."""
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if not isinstance(value, float):
        return value
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short


def replace(path, text):
    """Writes a file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def aligned(header, body):
    """The lines of a table whose columns stand below each other."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    for row in (header, *body):
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
