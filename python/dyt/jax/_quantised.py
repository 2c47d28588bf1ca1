"""The ops with a quantised result, for inference: y = round(v / scale) in one byte an element, where v is the op's float32.

dtype is float8_e4m3fn, float8_e5m2 or int8 (−127 to 127). v / scale is a true division, rounded to nearest even and saturated.
NaN stays NaN in float8, and is 0 in int8.

With `scale`, one value, every row has that scale. Without, each row has one of its own: its largest |v| by the largest value of
dtype, and 1 for a row of zeros. Both forms return (y, scales); with a residual (y, scales, sum). There is no gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._call import Extra, Modulation, Shape, norm, pointwise
from ._native import QUANTS
from ._ops import rms


def quantised_dyt(
    x: ArrayLike,
    dtype: Any,
    alpha: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    scale: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> tuple[jax.Array, ...]:
    """`dyt`, quantised."""
    extra = Extra(residual, modulation, _name(dtype), scale)
    return pointwise("dyt", x, {"alpha": alpha}, weight, bias, channels_last, extra)


def quantised_derf(
    x: ArrayLike,
    dtype: Any,
    alpha: ArrayLike,
    shift: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    scale: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> tuple[jax.Array, ...]:
    """`derf`, quantised."""
    extra = Extra(residual, modulation, _name(dtype), scale)
    return pointwise("derf", x, {"alpha": alpha, "shift": shift}, weight, bias, channels_last, extra)


def quantised_layer_norm(
    x: ArrayLike,
    dtype: Any,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    scale: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    unbiased: bool = False,
    modulation: Modulation | None = None,
) -> tuple[jax.Array, ...]:
    """`layer_norm`, quantised."""
    extra = Extra(residual, modulation, _name(dtype), scale)
    return norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased, 0.0, extra)


def quantised_rms_norm(
    x: ArrayLike,
    dtype: Any,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    scale: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    offset: float = 0.0,
    modulation: Modulation | None = None,
) -> Any:
    """`rms_norm`, quantised."""
    return rms(x, normalized_shape, weight, eps, offset, Extra(residual, modulation, _name(dtype), scale))


def _name(dtype: Any) -> str:
    name = jnp.dtype(dtype).name
    for ours, theirs in QUANTS.items():
        if name == theirs:
            return ours
    raise TypeError(f"dyt.jax: dtype is {name}, expected float8_e4m3fn, float8_e5m2 or int8")
