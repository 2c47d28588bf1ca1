"""The ops as functions.

`modulation` is AdaLN's (scale, shift): y · (1 + scale) + shift, in the same call. Both have the shape of x's first axes and of
its channels, such as (batch, dim) beside an x of (batch, tokens, dim); between them may be axes of size 1.

Each `add_…` function is its op of sum = x + residual, and returns (y, sum), in one pass. The sum is rounded to x's dtype first.
x and the residual have one shape and one dtype.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._call import Extra, Modulation, Shape, norm, pointwise

# As in torch, whatever the dtype of x.
_RMS_EPS = float(jnp.finfo("float32").eps)


def dyt(
    x: ArrayLike,
    alpha: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> jax.Array:
    """weight · tanh(alpha · x) + bias, along the last axis, or along axis 1 with `channels_last=False`."""
    return pointwise("dyt", x, {"alpha": alpha}, weight, bias, channels_last, Extra(modulation=modulation))


def derf(
    x: ArrayLike,
    alpha: ArrayLike,
    shift: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> jax.Array:
    """weight · erf(alpha · x + shift) + bias, along the last axis, or along axis 1 with `channels_last=False`."""
    scalars = {"alpha": alpha, "shift": shift}
    return pointwise("derf", x, scalars, weight, bias, channels_last, Extra(modulation=modulation))


def layer_norm(
    x: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
    modulation: Modulation | None = None,
) -> jax.Array:
    """(x − mean) / √(var + eps) · weight + bias over the last axes; with `unbiased`, / (std + eps) by cols − 1."""
    extra = Extra(modulation=modulation)
    return norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased, 0.0, extra)


def rms_norm(
    x: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
    modulation: Modulation | None = None,
) -> jax.Array:
    """x / √(mean x² + eps) · (weight + offset) over the last axes. eps is float32's machine epsilon by default, as in torch."""
    return rms(x, normalized_shape, weight, eps, offset, Extra(modulation=modulation))


def add_dyt(
    x: ArrayLike,
    residual: ArrayLike,
    alpha: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(`dyt` of sum = x + residual, sum)."""
    return pointwise("dyt", x, {"alpha": alpha}, weight, bias, channels_last, Extra(residual, modulation))


def add_derf(
    x: ArrayLike,
    residual: ArrayLike,
    alpha: ArrayLike,
    shift: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(`derf` of sum = x + residual, sum)."""
    scalars = {"alpha": alpha, "shift": shift}
    return pointwise("derf", x, scalars, weight, bias, channels_last, Extra(residual, modulation))


def add_layer_norm(
    x: ArrayLike,
    residual: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
    modulation: Modulation | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(`layer_norm` of sum = x + residual, sum)."""
    extra = Extra(residual, modulation)
    return norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased, 0.0, extra)


def add_rms_norm(
    x: ArrayLike,
    residual: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
    modulation: Modulation | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(`rms_norm` of sum = x + residual, sum)."""
    return rms(x, normalized_shape, weight, eps, offset, Extra(residual, modulation))


def rms(
    x: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None,
    eps: float | None,
    offset: float,
    extra: Extra,
) -> Any:
    """RMSNorm with its default of eps."""
    if offset != 0.0 and weight is None:
        raise TypeError("dyt.jax.rms_norm: offset is added to weight, and weight is not given")
    eps = _RMS_EPS if eps is None else eps
    return norm("rms_norm", x, normalized_shape, weight, None, eps, False, offset, extra)
