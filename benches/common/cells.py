"""What every comparison with peers has in common: ops, passes, types, constants, and a cell of a grid."""

from dataclasses import dataclass

TITLES = {"dyt": "DyT", "derf": "Derf", "layer_norm": "LayerNorm", "rms_norm": "RMSNorm"}
OPS = tuple(TITLES)
PASSES = ("forward", "backward")
SIZE = {"f32": 4, "f16": 2, "bf16": 2}
EPS = {"dyt": 0.0, "derf": 0.0, "layer_norm": 1e-5, "rms_norm": 1e-6}
# Exact in every type, so that all contenders compute the same function.
ALPHA, SHIFT = 0.5, 0.25
# Tensors that must be moved: x and y; dy, x and dx; or one after the other, as a training step does.
TENSORS = {"forward": 2, "backward": 3, "forward+backward": 5}


def parameters(op):
    """The parameters that the op has, in the order in which results are listed."""
    scalars = {"dyt": ["alpha"], "derf": ["alpha", "shift"]}.get(op, [])
    return [*scalars, "gamma"] + ([] if op == "rms_norm" else ["beta"])


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
        """Bytes that must be moved. Parameters and statistics are left out."""
        return self.tensor_bytes * TENSORS[self.pass_]

    def __str__(self):
        return f"{self.op} {self.pass_} {self.rows}x{self.cols} {self.dtype}"
