"""The figure: our speed by that of the fastest peer, a dot for each shape, on a logarithmic axis."""

import math
import statistics
from xml.sax.saxutils import escape

from cells import TENSORS, TITLES

LEFT, PANEL, GAP, ROW, TOP, BELOW = 196, 300, 52, 20, 74, 46
# Readable on white and on the dark pages of code hosts; the style sheet inside the file follows the reader's choice.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; } .small { font-size: 11px; fill: #57606a; }
.op { font-weight: 600; } .grid { stroke: #d0d7de; } .one { stroke: #57606a; stroke-width: 1.5; }
.wins { fill: #0969da; fill-opacity: .55; } .loses { fill: #bc4c00; fill-opacity: .8; }
.median { stroke: #0a3069; stroke-width: 2.5; } .paper { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .small { fill: #9198a1; } .grid { stroke: #30363d; } .one { stroke: #9198a1; }
.wins { fill: #58a6ff; } .loses { fill: #f0883e; } .median { stroke: #cae8ff; } .paper { fill: #0d1117; }
}
"""


def scale(points):
    """(lowest, highest) of the axis, powers of two that hold every ratio and 1."""
    values = [value for dots in points.values() for value, *_ in dots] + [1]
    return math.floor(math.log2(min(values))), max(1, math.ceil(math.log2(max(values))))


def rows_of(points):
    """(op, pass) in the order in which they stand below each other."""
    return [(op, p) for op in TITLES for p in TENSORS if any((op, p) == key[:2] for key in points)]


def svg(points, subtitle):
    """points: (op, pass, dtype) -> (ratio, cell, peer) of each shape."""
    dtypes = [dtype for dtype in ("f32", "bf16") if any(key[2] == dtype for key in points)]
    rows, (low, high) = rows_of(points), scale(points)
    width = LEFT + len(dtypes) * PANEL + (len(dtypes) - 1) * GAP + 24
    height = TOP + ROW * len(rows) + BELOW
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="Speed of dyt by that of the fastest peer">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}" rx="6"/>',
        '<text class="title" x="16" y="24">Speed of dyt by that of the fastest peer on the CPU</text>',
        f'<text class="small" x="16" y="42">{escape(subtitle)}</text>',
    ]
    for number, (op, pass_) in enumerate(rows):
        y = TOP + ROW * number + ROW / 2 + 4
        if number == 0 or rows[number - 1][0] != op:
            out.append(f'<text class="op" x="16" y="{y:g}">{TITLES[op]}</text>')
        out.append(f'<text x="{LEFT - 12}" y="{y:g}" text-anchor="end">{pass_}</text>')
    for number, dtype in enumerate(dtypes):
        left = LEFT + number * (PANEL + GAP)
        out += _panel({key[:2]: dots for key, dots in points.items() if key[2] == dtype}, dtype, left, rows, low, high)
    out.append(
        f'<text class="small" x="16" y="{height - 10}">A dot is a shape, a bar the median over the shapes. '
        "Left of 1× the peer is faster.</text>"
    )
    return "\n".join([*out, "</svg>"]) + "\n"


def _panel(points, dtype, left, rows, low, high):
    def x(value):
        return left + PANEL * (math.log2(value) - low) / (high - low)

    bottom = TOP + ROW * len(rows)
    out = [f'<text class="op" x="{left}" y="{TOP - 10}">{dtype}</text>']
    for power in range(low, high + 1):
        at, label = x(2.0**power), f"{2**power}×" if power >= 0 else f"1/{2**-power}×"
        kind = "one" if power == 0 else "grid"
        out.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        out.append(f'<text class="small" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    for number, row in enumerate(rows):
        y, dots = TOP + ROW * number + ROW / 2, points.get(row, [])
        for value, cell, peer in dots:
            kind = "wins" if value >= 1 else "loses"
            title = escape(f"{cell}: {value:.2f} × {peer}")
            out.append(f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y:g}" r="4"><title>{title}</title></circle>')
        if dots:
            at = x(statistics.median(value for value, *_ in dots))
            out.append(f'<line class="median" x1="{at:.1f}" x2="{at:.1f}" y1="{y - 7:g}" y2="{y + 7:g}"/>')
    return out
