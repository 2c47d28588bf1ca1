"""What is measured on a GPU, and what it has to reach."""

from cells import OPS, PASSES, Cell

SHAPES = (
    (1, 4096), (8, 4096), (64, 768), (64, 4096), (512, 768), (4096, 1024), (512, 8192), (16384, 768),
    (4096, 4096), (8192, 4096), (32768, 1024), (4096, 8192), (4096, 16384), (512, 65536), (1 << 20, 128),
)  # fmt: skip
# f16 runs the code of bf16 but for the conversions: a few shapes do.
F16_SHAPES = ((8, 4096), (4096, 4096), (8192, 4096))
QUICK_SHAPES = ((8, 4096), (16384, 768), (8192, 4096))

# A copy of fewer bytes than this measures the L2 and launches, and the targets do not speak of it.
LARGE = 100 << 20


def large(cell):
    """Whether the target is a fraction of the copy."""
    return cell.tensor_bytes >= LARGE


def shapes(text):
    """4096x1024,8x64 as [(4096, 1024), (8, 64)]."""
    found = []
    for part in text.split(","):
        rows, cols = map(int, part.split("x"))
        if min(rows, cols) < 1:
            raise ValueError(part)
        found.append((rows, cols))
    return found


def cells(quick=False, ops=OPS, dtypes=("f32", "bf16", "f16"), chosen=None):
    """The grid, or the shapes `chosen` instead of its own. Cells of one shape, type and op stand together: they share
    compiled functions."""
    found = []
    for rows, cols in chosen or (QUICK_SHAPES if quick else SHAPES):
        for dtype in dtypes:
            if dtype == "f16" and (quick or (rows, cols) not in F16_SHAPES):
                continue
            found += [Cell(op, pass_, rows, cols, dtype) for op in ops for pass_ in PASSES]
    return found


def target(cell):
    """The fraction of the copy that a large cell has to reach, or None for a small one."""
    if not large(cell):
        return None
    f32, forward = cell.dtype == "f32", cell.pass_ == "forward"
    if cell.op in ("dyt", "derf"):
        return (0.93 if f32 else 0.92) if forward else (0.88 if f32 else 0.86)
    return 0.90 if forward else 0.82
