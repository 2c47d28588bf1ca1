"""The kernels as calls of XLA's FFI: what a call computes, and the shapes of what it gives."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import _dyt

#: The dtypes that the kernels know, by their names in Rust.
DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}

#: The dtypes of a quantised y, by their names in Rust.
QUANTS = {"f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2", "i8": "int8"}


class Spec(NamedTuple):
    """What a call computes. Its operands and results are those that are there of

    - forward: x, alpha, shift, weight, bias, residual, scale → y, sum, mean, rstd, scales
    - backward: dy, x, alpha, shift, weight, mean, rstd, dsum → dx, dalpha, dshift, dweight, dbias

    With a residual the backward's x is the sum.

    x has `groups` leading axes along which parameters or their gradients differ. A parameter has these axes too, or is the
    same for all groups.
    """

    op: str
    #: The axis of x that weight and bias run along, and that the norms take their statistics of.
    axis: int
    groups: int
    eps: float
    unbiased: bool
    weight: bool
    bias: bool
    #: Whether the forward gives mean and rstd, and the backward takes them.
    statistics: bool
    #: What is added to weight, in float32.
    offset: float = 0.0
    residual: bool = False
    #: The dtype of a quantised y, by its name in `QUANTS`. It has a scale that is given, or gives one of each row.
    quant: str = ""
    scale: bool = False

    @property
    def scalars(self) -> int:
        """How many of alpha and shift there are."""
        return {"dyt": 1, "derf": 2}.get(self.op, 0)

    @property
    def parameters(self) -> int:
        """How many of alpha, shift, weight and bias there are."""
        return self.scalars + self.weight + self.bias

    @property
    def saved(self) -> int:
        """How many of mean and rstd there are."""
        return {"layer_norm": 2, "rms_norm": 1}.get(self.op, 0) if self.statistics else 0

    @property
    def is_norm(self) -> bool:
        return self.scalars == 0


class Shape(NamedTuple):
    """A result: the axes of x that it has, in order, and whether one more of size 1 is behind them."""

    axes: tuple[int, ...]
    one: bool = False
    #: x's where it is empty.
    dtype: str = "float32"

    def of(self, entries: Sequence[Any], one: Any) -> tuple[Any, ...]:
        """What `entries` says about x's axes, for the axes of the result."""
        return tuple(entries[axis] for axis in self.axes) + ((one,) if self.one else ())


def operand_shapes(spec: Spec, rank: int, batched: Sequence[bool]) -> list[Shape]:
    """The axes of the forward's operands; `batched` says which of its parameters, and then scale, have the groups' axes."""
    groups = [tuple(range(spec.groups)) if has_groups else () for has_groups in batched]
    scalars = [Shape(own, one=True) for own in groups[: spec.scalars]]
    vectors = [Shape((*own, spec.axis), dtype="") for own in groups[spec.scalars : spec.parameters]]
    scale = [Shape(own, one=True) for own in groups[spec.parameters :]]
    return [_like_x(rank), *scalars, *vectors, *[_like_x(rank)] * spec.residual, *scale]


def _like_x(rank: int, dtype: str = "") -> Shape:
    return Shape(tuple(range(rank)), dtype=dtype)


def saved_shapes(spec: Spec, rank: int) -> list[Shape]:
    """The axes of mean and rstd."""
    return [_of_rows(spec, rank)] * spec.saved


def _of_rows(spec: Spec, rank: int) -> Shape:
    return Shape(tuple(axis for axis in range(rank) if axis != spec.axis))


def result_shapes(spec: Spec, rank: int) -> list[Shape]:
    """The axes of the forward's results."""
    scales = [_of_rows(spec, rank)] * (bool(spec.quant) and not spec.scale)
    y = _like_x(rank, QUANTS.get(spec.quant, ""))
    return [y, *[_like_x(rank)] * spec.residual, *saved_shapes(spec, rank), *scales]


def gradient_shapes(spec: Spec, rank: int) -> list[Shape]:
    """The axes of the backward's results."""
    groups = tuple(range(spec.groups))
    scalars = [Shape(groups, one=True)] * spec.scalars
    vectors = [Shape((*groups, spec.axis))] * (spec.weight + spec.bias)
    return [_like_x(rank), *scalars, *vectors]


def forward(spec: Spec, *operands: jax.Array) -> list[jax.Array]:
    """y, and what more spec asks for."""
    results = _results(operands[0], result_shapes(spec, operands[0].ndim))
    return list(jax.ffi.ffi_call("dyt_forward", results)(*operands, **_attributes(spec)))


def backward(spec: Spec, gpu: bool, *operands: jax.Array) -> list[jax.Array]:
    """dx, and the gradients of the parameters in float32."""
    x = operands[1]
    weight = operands[2 + spec.scalars] if spec.weight else x
    results = _results(x, gradient_shapes(spec, x.ndim))
    workspace = jax.ShapeDtypeStruct((_workspace(spec, x, weight, gpu),), np.float32)
    return list(jax.ffi.ffi_call("dyt_backward", [*results, workspace])(*operands, **_attributes(spec)))[:-1]


def _results(x: jax.Array, shapes: Sequence[Shape]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape.of(x.shape, 1), shape.dtype or x.dtype) for shape in shapes]


def _workspace(spec: Spec, x: jax.Array, weight: jax.Array, gpu: bool) -> int:
    """Elements of the workspace of one group."""
    rows, cols, inner = prod(x.shape[spec.groups : spec.axis]), x.shape[spec.axis], prod(x.shape[spec.axis + 1 :])
    if inner == 0:
        rows, inner = 0, 1
    dtypes = DTYPES[x.dtype.name], DTYPES[weight.dtype.name]
    return _dyt.xla_workspace((spec.op, *dtypes, spec.unbiased, spec.eps, spec.offset, rows, cols, inner, 1, None), gpu)


def _attributes(spec: Spec) -> dict[str, Any]:
    names = ("axis", "groups", "unbiased", "weight", "bias", "statistics", "residual", "scale")
    numbers = {name: np.int64(getattr(spec, name)) for name in names}
    floats = {"eps": np.float32(spec.eps), "offset": np.float32(spec.offset)}
    return {"op": spec.op, "quant": spec.quant, **floats, **numbers}


def _register() -> None:
    targets: dict[tuple[str, str], dict[str, Any]] = {}
    for name, platform, stage, address in _dyt.xla_handlers():
        targets.setdefault((name, platform), {})[stage] = jax.ffi.pycapsule(address)
    for (name, platform), stages in targets.items():
        jax.ffi.register_ffi_target(name, stages, platform=platform)


_register()
