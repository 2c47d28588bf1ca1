"""The table that is printed."""

import grid
from files import aligned

# The times of a contender in a cell, in their order.
TIMES = ("device_us", "host_us", "graph_us")
COLUMNS = ("cell", "contender", "device us", "GB/s", "of copy", "target", "graph us", "host us", "ours is", "note")


def median(entry, time):
    """One of `TIMES` of a contender's entry in microseconds, or None where there is none."""
    timing = entry[TIMES.index(time)] if isinstance(entry, list) else None
    return timing[0] if isinstance(timing, list) else None


def note(entry):
    """Why a contender was not timed, or why there is no graph of it; or nothing."""
    return next((why for why in (entry if isinstance(entry, list) else [entry]) if isinstance(why, str)), "")


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def _ratio(above, below):
    return None if above is None or not below else above / below


def rows(record):
    """A row of text for each contender of each cell."""
    out = []
    for cell in record["cells"]:
        found = grid.Cell(cell["op"], cell["pass"], cell["rows"], cell["cols"], cell["dtype"])
        copy = cell["copy"][0]
        ours = median(cell["contenders"].get("dyt"), "device_us")
        for name, entry in cell["contenders"].items():
            device = median(entry, "device_us")
            rate = None if device is None else found.bytes / device / 1e3
            # The copy moved two tensors; the cell, two or three.
            fraction = _ratio(_ratio(found.bytes, device), _ratio(2 * found.tensor_bytes, copy))
            goal = grid.target(found) if name == "dyt" else None
            faster = None if name == "dyt" else _ratio(device, ours)
            out.append((
                str(found), name, _number(device, 2), _number(rate, 0), _number(fraction, 3), _number(goal, 2),
                _number(median(entry, "graph_us"), 2), _number(median(entry, "host_us"), 2),
                "-" if faster is None else f"{faster:.2f}x", note(entry),
            ))  # fmt: skip
    return out


def rms_ratios(record):
    """DyT's device time by RMSNorm's, both ours, of each cell that has both: (cell, ratio)."""
    times = {}
    for cell in record["cells"]:
        device = median(cell["contenders"].get("dyt"), "device_us")
        times[cell["op"], cell["pass"], cell["rows"], cell["cols"], cell["dtype"]] = device
    found = []
    for (op, *rest), time in times.items():
        ratio = _ratio(time, times.get(("rms_norm", *rest))) if op == "dyt" else None
        if ratio is not None:
            found.append((str(grid.Cell(op, *rest)), ratio))
    return found


def table(record):
    """The one table, with the ratios of DyT to RMSNorm below it."""
    lines = [
        f"{record['gpu']}, driver {record['driver']}, torch {record['torch']}, {record['date']}",
        *aligned(COLUMNS, rows(record)),
    ]
    ratios = [(cell, f"{ratio:.2f}") for cell, ratio in rms_ratios(record)]
    if ratios:
        lines += ["", *aligned(("cell", "time by our RMSNorm's"), ratios)]
    return "\n".join(lines)
