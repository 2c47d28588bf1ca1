"""The ops over numpy arrays, and over whatever has the buffer protocol, on the CPU.

x is float32, float16 or `ml_dtypes.bfloat16`; weight and bias are of x's dtype or float32. Arithmetic is float32.
Gradients of parameters are float32, whatever the parameters are.

    y = dyt.numpy.dyt(x, 0.5, weight, bias)
    grads = dyt.numpy.dyt_backward(dy, x, 0.5, weight)

weight and bias have the shape of the channels, or that behind x's first axes: (batch, dim) beside an x of (batch, tokens, dim)
for a row of them for each sample, as AdaLN's 1 + scale and shift. Their gradients then have that shape, too.

Each `add_…` function is its op of sum = x + residual, and returns (y, sum), in one pass. The sum is rounded to x's dtype first.
The backward takes the sum for x, and with `dsum`, the gradient of the sum, its dx is the gradient of x and of the residual.

Each `quantised_…` function gives y = round(v / scale) in float8_e4m3fn, float8_e5m2 (both of `ml_dtypes`) or int8, where v is
the op's result in float32. It returns (y, scales): the scale that was given, or one for each row, its largest |v| by the
largest value of the dtype; and with a residual (y, scales, sum).
"""

from typing import Any, NamedTuple

from . import _arrays
from ._arrays import Array, Buffer, Shape

__all__ = [
    "NormGradients",
    "PointwiseGradients",
    "add_derf",
    "add_dyt",
    "add_layer_norm",
    "add_rms_norm",
    "derf",
    "derf_backward",
    "dyt",
    "dyt_backward",
    "layer_norm",
    "layer_norm_backward",
    "quantised_derf",
    "quantised_dyt",
    "quantised_layer_norm",
    "quantised_rms_norm",
    "rms_norm",
    "rms_norm_backward",
]


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
    x: Buffer,
    alpha: Buffer,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    *,
    channels_last: bool = True,
) -> Array:
    """weight · tanh(alpha · x) + bias, along the last axis, or along axis 1 with `channels_last=False`."""
    return _arrays.forward(_arrays.pointwise("dyt", x, alpha, None, weight, bias, channels_last))


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
    return _arrays.forward(_arrays.pointwise("derf", x, alpha, shift, weight, bias, channels_last))


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
    return _arrays.forward(_arrays.norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased))


def rms_norm(
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
) -> Array:
    """x / √(mean x² + eps) · (weight + offset) over the last axes. eps is float32's machine epsilon by default, as in torch."""
    return _arrays.forward(_arrays.norm("rms_norm", x, normalized_shape, weight, None, eps, False, offset))


def add_dyt(
    x: Buffer,
    residual: Buffer,
    alpha: Buffer,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    *,
    channels_last: bool = True,
) -> tuple[Array, Array]:
    """(`dyt` of sum = x + residual, sum)."""
    call = _arrays.pointwise("dyt", x, alpha, None, weight, bias, channels_last)
    return _arrays.add(call, residual)


def add_derf(
    x: Buffer,
    residual: Buffer,
    alpha: Buffer,
    shift: Buffer,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    *,
    channels_last: bool = True,
) -> tuple[Array, Array]:
    """(`derf` of sum = x + residual, sum)."""
    call = _arrays.pointwise("derf", x, alpha, shift, weight, bias, channels_last)
    return _arrays.add(call, residual)


def add_layer_norm(
    x: Buffer,
    residual: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
) -> tuple[Array, Array]:
    """(`layer_norm` of sum = x + residual, sum)."""
    call = _arrays.norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased)
    return _arrays.add(call, residual)


def add_rms_norm(
    x: Buffer,
    residual: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
) -> tuple[Array, Array]:
    """(`rms_norm` of sum = x + residual, sum)."""
    call = _arrays.norm("rms_norm", x, normalized_shape, weight, None, eps, False, offset)
    return _arrays.add(call, residual)


def quantised_dyt(
    x: Buffer,
    dtype: Any,
    alpha: Buffer,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    *,
    scale: Buffer | None = None,
    residual: Buffer | None = None,
    channels_last: bool = True,
) -> tuple[Array, ...]:
    """`dyt`, quantised."""
    call = _arrays.pointwise("dyt", x, alpha, None, weight, bias, channels_last)
    return _arrays.quantised(call, dtype, scale, residual)


def quantised_derf(
    x: Buffer,
    dtype: Any,
    alpha: Buffer,
    shift: Buffer,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    *,
    scale: Buffer | None = None,
    residual: Buffer | None = None,
    channels_last: bool = True,
) -> tuple[Array, ...]:
    """`derf`, quantised."""
    call = _arrays.pointwise("derf", x, alpha, shift, weight, bias, channels_last)
    return _arrays.quantised(call, dtype, scale, residual)


def quantised_layer_norm(
    x: Buffer,
    dtype: Any,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    bias: Buffer | None = None,
    eps: float = 1e-5,
    *,
    scale: Buffer | None = None,
    residual: Buffer | None = None,
    unbiased: bool = False,
) -> tuple[Array, ...]:
    """`layer_norm`, quantised."""
    call = _arrays.norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased)
    return _arrays.quantised(call, dtype, scale, residual)


def quantised_rms_norm(
    x: Buffer,
    dtype: Any,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    eps: float | None = None,
    *,
    scale: Buffer | None = None,
    residual: Buffer | None = None,
    offset: float = 0.0,
) -> tuple[Array, ...]:
    """`rms_norm`, quantised."""
    call = _arrays.norm("rms_norm", x, normalized_shape, weight, None, eps, False, offset)
    return _arrays.quantised(call, dtype, scale, residual)


def dyt_backward(
    dy: Buffer,
    x: Buffer,
    alpha: Buffer,
    weight: Buffer | None = None,
    *,
    channels_last: bool = True,
    dsum: Buffer | None = None,
) -> PointwiseGradients:
    """The gradients of `dyt` from dy, the gradient of its result, and dsum, that of the sum."""
    call = _arrays.pointwise("dyt", x, alpha, None, weight, None, channels_last)
    return PointwiseGradients(*_arrays.backward(call, dy, dsum))


def derf_backward(
    dy: Buffer,
    x: Buffer,
    alpha: Buffer,
    shift: Buffer,
    weight: Buffer | None = None,
    *,
    channels_last: bool = True,
    dsum: Buffer | None = None,
) -> PointwiseGradients:
    """The gradients of `derf` from dy, the gradient of its result, and dsum, that of the sum."""
    call = _arrays.pointwise("derf", x, alpha, shift, weight, None, channels_last)
    return PointwiseGradients(*_arrays.backward(call, dy, dsum))


def layer_norm_backward(
    dy: Buffer,
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
    dsum: Buffer | None = None,
) -> NormGradients:
    """The gradients of `layer_norm` from dy, the gradient of its result, and dsum, that of the sum."""
    dx, _, _, dweight, dbias = _arrays.backward(
        _arrays.norm("layer_norm", x, normalized_shape, weight, None, eps, unbiased), dy, dsum
    )
    return NormGradients(dx, dweight, dbias)


def rms_norm_backward(
    dy: Buffer,
    x: Buffer,
    normalized_shape: Shape,
    weight: Buffer | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
    dsum: Buffer | None = None,
) -> NormGradients:
    """The gradients of `rms_norm` from dy, the gradient of its result, and dsum, that of the sum."""
    dx, _, _, dweight, dbias = _arrays.backward(
        _arrays.norm("rms_norm", x, normalized_shape, weight, None, eps, False, offset), dy, dsum
    )
    return NormGradients(dx, dweight, dbias)
