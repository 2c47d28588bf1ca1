"""A call of an op on numpy arrays: its arguments, checked and brought to what the kernels take."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _dyt

#: Whatever numpy makes an array of without a copy.
Buffer: TypeAlias = Any
Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = int | Sequence[int]

_NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_QUANTS = {"float8_e4m3fn": "f8e4m3", "float8_e5m2": "f8e5m2", "int8": "i8"}


class Call(NamedTuple):
    """An op with its x and its parameters."""

    op: str
    x: Array
    alpha: Array | None
    shift: Array | None
    weight: Array | None
    bias: Array | None
    #: The shape of weight and bias: x's first axes, where samples have their own, and the channels.
    params: tuple[int, ...]
    param_dtype: str
    #: Rows, columns, and the run length of channels-first data.
    sizes: tuple[int, int, int]
    #: The axes of x without those of the channels.
    of_rows: tuple[int, ...]
    groups: int
    unbiased: bool = False
    eps: float | None = None
    offset: float = 0.0

    def describe(self, quant: str | None = None) -> Any:
        rows = self.sizes[0]
        groups = self.groups if rows else 1
        dtypes = _NAMES[self.x.dtype.name], self.param_dtype
        return (self.op, *dtypes, self.unbiased, self.eps, self.offset, *self.sizes, groups, quant)


def pointwise(
    op: str, x: Buffer, alpha: Buffer, shift: Buffer | None, weight: Buffer | None, bias: Buffer | None, last: bool
) -> Call:
    """DyT or Derf."""
    x, alpha = _array("x", x), _scalar("alpha", alpha)
    shift = None if shift is None else _scalar("shift", shift)
    sizes = _sizes(x, last)
    most = max(x.ndim - 1, 0) if last else 1
    param, weight, bias, params = _parameters(x, (sizes[1],), most, weight, bias)
    of_rows = x.shape[:-1] if last else x.shape[:1] + x.shape[2:]
    return Call(op, x, alpha, shift, weight, bias, params, param, sizes, of_rows, prod(params[:-1]))


def norm(
    op: str,
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None,
    bias: Buffer | None,
    eps: float | None,
    unbiased: bool = False,
    offset: float = 0.0,
) -> Call:
    """Either norm."""
    if offset != 0.0 and weight is None:
        raise TypeError("dyt: offset is added to weight, and weight is not given")
    x = _array("x", x)
    shape, sizes = _normalized(x, normalized_shape)
    param, weight, bias, params = _parameters(x, shape, x.ndim - len(shape), weight, bias)
    groups = prod(params[: len(params) - len(shape)])
    eps = float(np.finfo(np.float32).eps) if eps is None else eps
    of_rows = x.shape[: -len(shape)]
    return Call(op, x, None, None, weight, bias, params, param, sizes, of_rows, groups, unbiased, eps, offset)


def forward(call: Call) -> Array:
    """y."""
    y = np.empty(call.x.shape, call.x.dtype)
    _forward(call, call.describe(), y)
    return y


def add(call: Call, residual: Buffer) -> tuple[Array, Array]:
    """(y, sum)."""
    y, total = np.empty(call.x.shape, call.x.dtype), np.empty(call.x.shape, call.x.dtype)
    _forward(call, call.describe(), y, _like("residual", residual, call.x), total)
    return y, total


def quantised(call: Call, dtype: Any, scale: Buffer | None, residual: Buffer | None) -> tuple[Array, ...]:
    """(y, scales), or (y, scales, sum) with a residual."""
    dtype = np.dtype(dtype)
    if dtype.name not in _QUANTS:
        raise TypeError(f"dyt: dtype is {dtype}, expected float8_e4m3fn, float8_e5m2 or int8")
    x, y = call.x, np.empty(call.x.shape, dtype)
    given = None if scale is None else _scalar("scale", scale)
    scales = np.empty(call.of_rows, np.float32) if given is None else given
    at = (given, None) if given is not None else (None, scales)
    total = None if residual is None else np.empty(x.shape, x.dtype)
    residual = None if residual is None else _like("residual", residual, x)
    _forward(call, call.describe(_QUANTS[dtype.name]), y, residual, total, *at)
    return (y, scales) if total is None else (y, scales, total)


def _forward(
    call: Call,
    description: Any,
    y: Array,
    residual: Array | None = None,
    total: Array | None = None,
    scale: Array | None = None,
    scales: Array | None = None,
) -> None:
    own = (call.alpha, call.shift, call.weight, call.bias)
    _dyt.forward(description, _at(call.x, residual, *own, y, total, scale, scales))


def backward(call: Call, dy: Buffer, dsum: Buffer | None) -> tuple[Any, ...]:
    """(dx, dalpha, dshift, dweight, dbias); those that the op does not have are None."""
    x, float32 = call.x, np.float32
    dy, dsum = _like("dy", dy, x), None if dsum is None else _like("dsum", dsum, x)
    dx = np.empty(x.shape, x.dtype)
    dalpha, dshift = (None if scalar is None else np.empty((), float32) for scalar in (call.alpha, call.shift))
    dbias = np.zeros(call.params, float32)
    dweight = None if call.weight is None else np.zeros(call.params, float32)
    own = (call.alpha, call.shift, call.weight)
    _dyt.backward(call.describe(), _at(dy, x, dsum, *own, dx, dalpha, dshift, dweight, dbias))
    return dx, dalpha, dshift, dweight, dbias


# --- arguments ----------------------------------------------------------------------------------------------------


def _at(*arrays: Array | None) -> list[int]:
    return [0 if array is None else array.ctypes.data for array in arrays]


def _array(name: str, value: Buffer) -> Array:
    """The value as an array of a dtype that the kernels know, contiguous and aligned."""
    array = np.asarray(value)
    if array.dtype.name not in _NAMES:
        raise TypeError(f"dyt: {name} is {array.dtype}, expected float32, float16 or bfloat16")
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])


def _scalar(name: str, value: Buffer) -> Array:
    array = np.asarray(value, np.float32)
    if array.size != 1:
        raise ValueError(f"dyt: {name} has shape {array.shape}, expected one value")
    return np.ascontiguousarray(array)


def _parameters(
    x: Array, shape: tuple[int, ...], most: int, weight: Buffer | None, bias: Buffer | None
) -> tuple[str, Array | None, Array | None, tuple[int, ...]]:
    """The dtype of weight and bias, which is x's or float32, the two of them, and their shape.

    It is `shape`, or that behind x's first axes, of which there are `most`.
    """
    given = {name: _array(name, value) for name, value in (("weight", weight), ("bias", bias)) if value is not None}
    lead = max((array.ndim - len(shape) for array in given.values()), default=0)
    full = (*x.shape[:lead], *shape) if 0 < lead <= most else shape
    for name, array in given.items():
        if array.shape not in (shape, full):
            raise ValueError(f"dyt: {name} has shape {array.shape}, expected {full}")
        if array.dtype not in (x.dtype, np.float32):
            raise TypeError(f"dyt: {name} is {array.dtype}, expected {x.dtype} or float32")
    dtypes = {array.dtype for array in given.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32) if dtypes else x.dtype

    def bring(name: str) -> Array | None:
        array = given.get(name)
        return None if array is None else np.ascontiguousarray(np.broadcast_to(array, full), dtype)

    return _NAMES[dtype.name], bring("weight"), bring("bias"), full


def _like(name: str, value: Buffer, x: Array) -> Array:
    array = _array(name, value)
    if array.shape != x.shape or array.dtype != x.dtype:
        raise ValueError(
            f"dyt: {name} is {array.dtype} of shape {array.shape}, expected x's {x.dtype} of shape {x.shape}"
        )
    return array


def _sizes(x: Array, channels_last: bool) -> tuple[int, int, int]:
    """Rows, columns and the run length of channels-first data."""
    if channels_last:
        cols = x.shape[-1] if x.ndim else 1
        return x.size // max(cols, 1), cols, 1
    if x.ndim < 2:
        raise ValueError(f"dyt: x has shape {x.shape}, expected at least 2 axes with channels_last=False")
    inner = prod(x.shape[2:])
    # Without elements there are no rows, whatever the run length.
    return (x.shape[0], x.shape[1], inner) if inner else (0, x.shape[1], 1)


def _normalized(x: Array, normalized_shape: Shape) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    shape = (int(normalized_shape),) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"dyt: x has shape {x.shape}, expected its last axes to be normalized_shape, {shape}")
    cols = prod(shape)
    return shape, (x.size // max(cols, 1), cols, 1)
