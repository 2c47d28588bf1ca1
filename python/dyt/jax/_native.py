"""The kernels as calls of XLA's FFI: what a call computes, and the shapes of what it gives."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import _dyt

#: The dtypes that the kernels know, by their names in Rust.
DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class Spec(NamedTuple):
    """What a call computes. Its operands and results are those that are there of

    - forward: x, alpha, shift, weight, bias → y, mean, rstd
    - backward: dy, x, alpha, shift, weight, mean, rstd → dx, dalpha, dshift, dweight, dbias

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

    @property
    def scalars(self) -> int:
        """How many of alpha and shift there are."""
        return {"dyt": 1, "derf": 2}.get(self.op, 0)

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
    float32: bool = True

    def of(self, entries: Sequence[Any], one: Any) -> tuple[Any, ...]:
        """What `entries` says about x's axes, for the axes of the result."""
        return tuple(entries[axis] for axis in self.axes) + ((one,) if self.one else ())


def operand_shapes(spec: Spec, rank: int, batched: Sequence[bool]) -> list[Shape]:
    """The axes of the forward's operands; `batched` says which of its parameters have the groups' axes."""
    shapes = [Shape(tuple(range(rank)), float32=False)]
    for number, has_groups in enumerate(batched):
        groups = tuple(range(spec.groups)) if has_groups else ()
        shapes.append(Shape(groups, one=True) if number < spec.scalars else Shape((*groups, spec.axis), float32=False))
    return shapes


def saved_shapes(spec: Spec, rank: int) -> list[Shape]:
    """The axes of mean and rstd."""
    return [Shape(tuple(axis for axis in range(rank) if axis != spec.axis))] * spec.saved


def gradient_shapes(spec: Spec, rank: int) -> list[Shape]:
    """The axes of the backward's results."""
    groups = tuple(range(spec.groups))
    scalars = [Shape(groups, one=True)] * spec.scalars
    vectors = [Shape((*groups, spec.axis))] * (spec.weight + spec.bias)
    return [Shape(tuple(range(rank)), float32=False), *scalars, *vectors]


def forward(spec: Spec, *operands: jax.Array) -> list[jax.Array]:
    """y, and the statistics that spec asks for."""
    x = operands[0]
    shapes = [Shape(tuple(range(x.ndim)), float32=False), *saved_shapes(spec, x.ndim)]
    return list(jax.ffi.ffi_call("dyt_forward", _results(x, shapes))(*operands, **_attributes(spec)))


def backward(spec: Spec, gpu: bool, *operands: jax.Array) -> list[jax.Array]:
    """dx, and the gradients of the parameters in float32."""
    x = operands[1]
    weight = operands[2 + spec.scalars] if spec.weight else x
    results = _results(x, gradient_shapes(spec, x.ndim))
    workspace = jax.ShapeDtypeStruct((_workspace(spec, x, weight, gpu),), np.float32)
    return list(jax.ffi.ffi_call("dyt_backward", [*results, workspace])(*operands, **_attributes(spec)))[:-1]


def _results(x: jax.Array, shapes: Sequence[Shape]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape.of(x.shape, 1), np.float32 if shape.float32 else x.dtype) for shape in shapes]


def _workspace(spec: Spec, x: jax.Array, weight: jax.Array, gpu: bool) -> int:
    """Elements of the workspace of one group."""
    rows, cols, inner = prod(x.shape[spec.groups : spec.axis]), x.shape[spec.axis], prod(x.shape[spec.axis + 1 :])
    if inner == 0:
        rows, inner = 0, 1
    dtypes = DTYPES[x.dtype.name], DTYPES[weight.dtype.name]
    return _dyt.xla_workspace((spec.op, *dtypes, spec.unbiased, spec.eps, spec.offset, rows, cols, inner), gpu)


def _attributes(spec: Spec) -> dict[str, Any]:
    numbers = {
        name: np.int64(getattr(spec, name)) for name in ("axis", "groups", "unbiased", "weight", "bias", "statistics")
    }
    return {"op": spec.op, "eps": np.float32(spec.eps), "offset": np.float32(spec.offset), **numbers}


def _register() -> None:
    targets: dict[tuple[str, str], dict[str, Any]] = {}
    for name, platform, stage, address in _dyt.xla_handlers():
        targets.setdefault((name, platform), {})[stage] = jax.ffi.pycapsule(address)
    for (name, platform), stages in targets.items():
        jax.ffi.register_ffi_target(name, stages, platform=platform)


_register()
