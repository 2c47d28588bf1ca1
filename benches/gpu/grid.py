"""What is measured: shapes, types, ops and passes, and the bytes that each must move."""

from dataclasses import dataclass

OPS = ("dyt", "derf", "layer_norm", "rms_norm")
PASSES = ("forward", "backward")
SIZE = {"f32": 4, "f16": 2, "bf16": 2}
EPS = {"dyt": 0.0, "derf": 0.0, "layer_norm": 1e-5, "rms_norm": 1e-6}
# Exact in every type, so that all contenders compute the same function.
ALPHA, SHIFT = 0.5, 0.25

SHAPES = (
    (1, 4096), (8, 4096), (64, 768), (64, 4096), (512, 768), (4096, 1024), (512, 8192), (16384, 768),
    (4096, 4096), (8192, 4096), (32768, 1024), (4096, 8192), (4096, 16384), (512, 65536), (1 << 20, 128),
)  # fmt: skip
# f16 runs the code of bf16 but for the conversions: a few shapes do.
F16_SHAPES = ((8, 4096), (4096, 4096), (8192, 4096))
QUICK_SHAPES = ((8, 4096), (16384, 768), (8192, 4096))

# A copy of fewer bytes than this measures the L2 and launches, and the targets do not speak of it.
LARGE = 100 << 20


@dataclass(frozen=True)
class Cell:
    """One op and pass on one shape and type; every contender computes it."""

    op: str
    pass_: str
    rows: int
    cols: int
    dtype: str

    @property
    def tensor_bytes(self):
        """Bytes of x."""
        return self.rows * self.cols * SIZE[self.dtype]

    @property
    def bytes(self):
        """Bytes that must be moved: x and y, or dy, x and dx. Parameters and statistics are left out."""
        return self.tensor_bytes * (2 if self.pass_ == "forward" else 3)

    @property
    def large(self):
        """Whether the target is a fraction of the copy."""
        return self.tensor_bytes >= LARGE

    def __str__(self):
        return f"{self.op} {self.pass_} {self.rows}x{self.cols} {self.dtype}"


def cells(quick=False, ops=OPS, dtypes=("f32", "bf16", "f16")):
    """The grid. Cells of one shape, type and op stand together: they share compiled functions."""
    found = []
    for rows, cols in QUICK_SHAPES if quick else SHAPES:
        for dtype in dtypes:
            if dtype == "f16" and (quick or (rows, cols) not in F16_SHAPES):
                continue
            found += [Cell(op, pass_, rows, cols, dtype) for op in ops for pass_ in PASSES]
    return found


def target(cell):
    """The fraction of the copy that a large cell has to reach, or None for a small one."""
    if not cell.large:
        return None
    f32, forward = cell.dtype == "f32", cell.pass_ == "forward"
    if cell.op in ("dyt", "derf"):
        return (0.93 if f32 else 0.92) if forward else (0.88 if f32 else 0.86)
    return 0.90 if forward else 0.82
