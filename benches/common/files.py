"""Records as files, and tables as text."""

import json


def write(record, path):
    """Writes the JSON whole or not at all; NaN is refused, as no reader of JSON has to know it."""
    replace(path, json.dumps(record, indent=2, allow_nan=False) + "\n")


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
