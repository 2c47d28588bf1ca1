"""The ops with a quantised result, for inference: y = round(v / scale) in one byte an element, where v is the op's float32.

dtype is torch.float8_e4m3fn, torch.float8_e5m2 or torch.int8 (−127 to 127). v / scale is a true division, rounded to nearest
even and saturated. NaN stays NaN in float8, and is 0 in int8. y · scale is what y stands for.

With `scale`, one value, every row has that scale. Without, each row has one of its own: its largest |v| by the largest value of
dtype, at least 2⁻¹²⁶, and 1 for a row of zeros. Both forms return (y, scales): the scale that was given, or one for each row.
With a residual they return (y, scales, sum), as the `add_…` functions do.

There is no gradient: a call that would need one raises a RuntimeError.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from . import _functions, _ops
from . import functional as F

__all__ = ["quant_scale", "quantised_derf", "quantised_dyt", "quantised_layer_norm", "quantised_rms_norm"]

Scale = Tensor | float


def quantised_dyt(
    x: Tensor,
    dtype: torch.dtype,
    alpha: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    scale: Scale | None = None,
    residual: Tensor | None = None,
    channels_last: bool = True,
    modulation: F.Modulation | None = None,
) -> tuple[Tensor, ...]:
    """`dyt`, quantised. `quant_scale` gives a scale that never saturates, without a look at x."""
    call = _quantised(x, dtype, scale)
    return F.pointwise(x, residual, alpha, None, weight, bias, channels_last, modulation, call)


def quantised_derf(
    x: Tensor,
    dtype: torch.dtype,
    alpha: Tensor,
    shift: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    scale: Scale | None = None,
    residual: Tensor | None = None,
    channels_last: bool = True,
    modulation: F.Modulation | None = None,
) -> tuple[Tensor, ...]:
    """`derf`, quantised. `quant_scale` gives a scale that never saturates, without a look at x."""
    F.check_shift(shift)
    call = _quantised(x, dtype, scale)
    return F.pointwise(x, residual, alpha, shift, weight, bias, channels_last, modulation, call)


def quantised_layer_norm(
    x: Tensor,
    dtype: torch.dtype,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    scale: Scale | None = None,
    residual: Tensor | None = None,
    unbiased: bool = False,
    modulation: F.Modulation | None = None,
) -> tuple[Tensor, ...]:
    """`layer_norm`, quantised."""
    form = _ops.UNBIASED if unbiased else _ops.LAYER_NORM
    call = _quantised(x, dtype, scale)
    return F.norm(x, residual, normalized_shape, weight, bias, eps, form, 0.0, modulation, call)


def quantised_rms_norm(
    x: Tensor,
    dtype: torch.dtype,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    scale: Scale | None = None,
    residual: Tensor | None = None,
    offset: float = 0.0,
    modulation: F.Modulation | None = None,
) -> tuple[Tensor, ...]:
    """`rms_norm`, quantised."""
    call = _quantised(x, dtype, scale)
    return F.norm(x, residual, normalized_shape, weight, None, eps, _ops.RMS_NORM, offset, modulation, call)


def quant_scale(dtype: torch.dtype, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """A scale with which no y of DyT and Derf saturates, whatever x: the largest |weight| + |bias| by the largest of dtype.

    One value in float32. No norm has such a scale: its results grow with the width.
    """
    _number(dtype)
    factor = torch.ones(1) if weight is None else weight.detach().float().abs()
    bound = (factor if bias is None else factor.to(bias.device) + bias.detach().float().abs()).max()
    largest = 127.0 if dtype == torch.int8 else torch.finfo(dtype).max
    scale = (bound / largest).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(bound == 0, 1.0, scale).reshape(1)


def _number(dtype: torch.dtype) -> int:
    if dtype not in _ops.QUANTS:
        raise TypeError(f"dyt: dtype is {dtype}, expected torch.float8_e4m3fn, torch.float8_e5m2 or torch.int8")
    return _ops.QUANTS.index(dtype)


def _quantised(x: Tensor, dtype: torch.dtype, scale: Scale | None) -> partial[tuple[Tensor, ...]]:
    """What takes the place of `_functions.call`."""
    if not isinstance(x, Tensor):
        raise F.no_tensor("x", x)
    if scale is not None and not isinstance(scale, Tensor):
        scale = torch.full((1,), float(scale), dtype=torch.float32, device=x.device)
    return partial(_functions.quantised, _number(dtype), scale)
