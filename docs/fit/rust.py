"""Prints fits as Rust."""

import numpy

HEADER = """\
//! Coefficients of 2^x, tanh and erf, printed by `docs/fit/fit.py`: nothing here is edited by hand.

/// A function of a ≥ 0 in `E` pieces: the upper bits of a + `shift`, a up to `limit`, choose a column of `rows`.
pub(super) struct Table<const E: usize, const ROWS: usize> {
    pub(super) shift: f32,
    pub(super) limit: f32,
    pub(super) rows: [[f32; E]; ROWS],
}"""


def literal(value):
    """The shortest decimal that rounds to this f32."""
    if value != 0 and abs(value) < 1e-3:
        return numpy.format_float_scientific(numpy.float32(value), unique=True, trim="0")
    return numpy.format_float_positional(numpy.float32(value), unique=True, trim="0")


def listed(texts, indent, width=100):
    """The texts, as many a line as fit."""
    lines, line = [], ""
    for text in texts:
        if len(line) + len(text) > width:
            lines.append(line)
            line = ""
        line += text + ", "
    return "".join(f"{indent}{line.rstrip()}\n" for line in lines + [line])


def array(doc, name, coefficients):
    """An array of f32."""
    texts = [literal(c) for c in coefficients]
    print(f"\n/// {doc}\npub(super) const {name}: [f32; {len(texts)}] = [")
    print(listed(texts, "    ") + "];")


def pieces(doc, name, shift, limit, rows):
    """A `Table`."""
    entries = len(rows[0])
    print(f"\n/// {doc}\npub(super) static {name}: Table<{entries}, {len(rows)}> = Table {{")
    print(f"    shift: {literal(shift)},\n    limit: {literal(limit)},\n    rows: [")
    for row in rows:
        print("        [\n" + listed([literal(c) for c in row], "            ") + "        ],")
    print("    ],\n};")
