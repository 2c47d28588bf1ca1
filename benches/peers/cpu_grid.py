"""What is measured on the CPU: the shapes of the design's targets, the most telling first."""

from cells import OPS, TENSORS, Cell

# L2, memory with narrow rows, memory with wide rows; then the rest, by size.
QUICK_SHAPES = ((64, 768), (8, 4096))
SHAPES = (
    (64, 768), (8, 4096), (1, 4096), (512, 768), (16384, 768), (4096, 4096), (4096, 1024), (512, 8192),
    (8192, 4096), (32768, 1024), (4096, 8192), (4096, 16384),
)  # fmt: skip
DTYPES = ("f32", "bf16")


def groups(quick=False, ops=OPS, dtypes=DTYPES):
    """Lists of cells, a list for each shape, type and op: they have inputs, reference and compiled functions in common."""
    shapes = QUICK_SHAPES if quick else SHAPES
    return [
        [Cell(op, pass_, rows, cols, dtype) for pass_ in TENSORS]
        for rows, cols in shapes for dtype in dtypes for op in ops
    ]  # fmt: skip
