"""The ops over numpy arrays, and over whatever has the buffer protocol, on the CPU.

x is float32, float16 or `ml_dtypes.bfloat16`; weight and bias are of x's dtype or float32. Arithmetic is float32.
Gradients of parameters are float32, whatever the parameters are.

    y = dyt.numpy.dyt(x, 0.5, weight, bias)
    grads = dyt.numpy.dyt_backward(dy, x, 0.5, weight)
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _dyt

__all__ = [
    "NormGradients",
    "PointwiseGradients",
    "derf",
    "derf_backward",
    "dyt",
    "dyt_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]

#: Whatever numpy makes an array of without a copy.
Buffer: TypeAlias = Any
Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = int | Sequence[int]

_NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class PointwiseGradients(NamedTuple):
    """The gradients of DyT and Derf. `dshift` is None for DyT, `dweight` where no weight was given."""

    dx: Array
    dalpha: Array
    dshift: Array | None
    dweight: Array | None
    dbias: Array


class NormGradients(NamedTuple):
    """The gradients of the norms. `dweight` is None where no weight was given."""

    dx: Array
    dweight: Array | None
    dbias: Array


def dyt(
    x: Buffer, alpha: Buffer, weight: Buffer | None = None, bias: Buffer | None = None, *, channels_last: bool = True
) -> Array:
    """weight · tanh(alpha · x) + bias, along the last axis, or along axis 1 with `channels_last=False`."""
    return _pointwise("dyt", x, alpha, None, weight, bias, channels_last)


def derf(
    x: Buffer,
    alpha: Buffer,
    shift: Buffer,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    *,
    channels_last: bool = True,
) -> Array:
    """weight · erf(alpha · x + shift) + bias, along the last axis, or along axis 1 with `channels_last=False`."""
    return _pointwise("derf", x, alpha, shift, weight, bias, channels_last)


def dyt_backward(
    dy: Buffer, x: Buffer, alpha: Buffer, weight: Buffer | None = None, *, channels_last: bool = True
) -> PointwiseGradients:
    """The gradients of `dyt` from dy, the gradient of its result."""
    return _pointwise_backward("dyt", dy, x, alpha, None, weight, channels_last)


def derf_backward(
    dy: Buffer, x: Buffer, alpha: Buffer, shift: Buffer, weight: Buffer | None = None, *, channels_last: bool = True
) -> PointwiseGradients:
    """The gradients of `derf` from dy, the gradient of its result."""
    return _pointwise_backward("derf", dy, x, alpha, shift, weight, channels_last)


def layer_norm(
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
) -> Array:
    """(x − mean) / √(var + eps) · weight + bias over the last axes; with `unbiased`, / (std + eps) by cols − 1."""
    return _norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased)


def rms_norm(
    x: Buffer, normalized_shape: Shape, weight: Buffer | None = None, eps: float | None = None, *, offset: float = 0.0
) -> Array:
    """x / √(mean x² + eps) · (weight + offset) over the last axes. eps is float32's machine epsilon by default, as in torch."""
    return _norm("rms_norm", x, normalized_shape, weight, None, _rms_eps(eps), False, offset)


def layer_norm_backward(
    dy: Buffer,
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
) -> NormGradients:
    """The gradients of `layer_norm` from dy, the gradient of its result."""
    return _norm_backward("layer_norm", dy, x, normalized_shape, weight, eps, unbiased)


def rms_norm_backward(
    dy: Buffer,
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
) -> NormGradients:
    """The gradients of `rms_norm` from dy, the gradient of its result."""
    return _norm_backward("rms_norm", dy, x, normalized_shape, weight, _rms_eps(eps), False, offset)


def _rms_eps(eps: float | None) -> float:
    return float(np.finfo(np.float32).eps) if eps is None else eps


def _check_offset(offset: float, weight: Buffer | None) -> None:
    if offset != 0.0 and weight is None:
        raise TypeError("dyt: offset is added to weight, and weight is not given")


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
    x: Array, shape: tuple[int, ...], weight: Buffer | None, bias: Buffer | None
) -> tuple[str, Array | None, Array | None]:
    """Weight and bias in one dtype, x's or float32, and the name of that dtype."""
    given = {name: _array(name, value) for name, value in (("weight", weight), ("bias", bias)) if value is not None}
    for name, array in given.items():
        if array.shape != shape:
            raise ValueError(f"dyt: {name} has shape {array.shape}, expected {shape}")
        if array.dtype not in (x.dtype, np.float32):
            raise TypeError(f"dyt: {name} is {array.dtype}, expected {x.dtype} or float32")
    dtypes = {array.dtype for array in given.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32) if dtypes else x.dtype
    weight, bias = (None if name not in given else given[name].astype(dtype, copy=False) for name in ("weight", "bias"))
    return _NAMES[dtype.name], weight, bias


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


def _at(*arrays: Array | None) -> list[int]:
    return [0 if array is None else array.ctypes.data for array in arrays]


def _pointwise(
    op: str, x: Buffer, alpha: Buffer, shift: Buffer | None, weight: Buffer | None, bias: Buffer | None, last: bool
) -> Array:
    x, alpha = _array("x", x), _scalar("alpha", alpha)
    shift = None if shift is None else _scalar("shift", shift)
    sizes = _sizes(x, last)
    param, weight, bias = _parameters(x, (sizes[1],), weight, bias)
    y = np.empty(x.shape, x.dtype)
    _dyt.forward(
        (op, _NAMES[x.dtype.name], param, False, None, 0.0, *sizes), _at(x, alpha, shift, weight, bias, y, None, None)
    )
    return y


def _pointwise_backward(
    op: str, dy: Buffer, x: Buffer, alpha: Buffer, shift: Buffer | None, weight: Buffer | None, last: bool
) -> PointwiseGradients:
    x, alpha = _array("x", x), _scalar("alpha", alpha)
    dy, shift = _like("dy", dy, x), None if shift is None else _scalar("shift", shift)
    sizes = _sizes(x, last)
    param, weight, _ = _parameters(x, (sizes[1],), weight, None)
    dx, dalpha, dbias = np.empty(x.shape, x.dtype), np.empty((), np.float32), np.empty(sizes[1], np.float32)
    dshift = None if shift is None else np.empty((), np.float32)
    dweight = None if weight is None else np.empty(sizes[1], np.float32)
    at = _at(dy, x, alpha, shift, weight, None, None, dx, dalpha, dshift, dweight, dbias)
    _dyt.backward((op, _NAMES[x.dtype.name], param, False, None, 0.0, *sizes), at)
    return PointwiseGradients(dx, dalpha, dshift, dweight, dbias)


def _norm(
    op: str,
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None,
    bias: Buffer | None,
    eps: float,
    unbiased: bool,
    offset: float = 0.0,
) -> Array:
    x = _array("x", x)
    _check_offset(offset, weight)
    shape, sizes = _normalized(x, normalized_shape)
    param, weight, bias = _parameters(x, shape, weight, bias)
    y = np.empty(x.shape, x.dtype)
    description = (op, _NAMES[x.dtype.name], param, unbiased, eps, offset, *sizes)
    _dyt.forward(description, _at(x, None, None, weight, bias, y, None, None))
    return y


def _norm_backward(
    op: str,
    dy: Buffer,
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None,
    eps: float,
    unbiased: bool,
    offset: float = 0.0,
) -> NormGradients:
    x = _array("x", x)
    _check_offset(offset, weight)
    dy = _like("dy", dy, x)
    shape, sizes = _normalized(x, normalized_shape)
    param, weight, _ = _parameters(x, shape, weight, None)
    dx, dbias = np.empty(x.shape, x.dtype), np.empty(shape, np.float32)
    dweight = None if weight is None else np.empty(shape, np.float32)
    description = (op, _NAMES[x.dtype.name], param, unbiased, eps, offset, *sizes)
    _dyt.backward(description, _at(dy, x, None, None, weight, None, None, dx, None, None, dweight, dbias))
    return NormGradients(dx, dweight, dbias)
