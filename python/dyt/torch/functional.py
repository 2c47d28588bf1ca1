"""The ops as functions of tensors.

x is float32, float16 or bfloat16, and so is the result, under autocast too. Parameters are of x's dtype or float32 (others
are brought to float32), and their gradients are of their own dtype. Arithmetic is float32. x may lie in memory in whatever
way; where its rows are contiguous, as those of the queries in a packed QKV, it is not copied.

`modulation` is AdaLN's (scale, shift): y · (1 + scale) + shift, in the same pass. Both have the shape of x's first dimensions
and of its channels, such as (batch, dim) beside an x of (batch, tokens, dim); between them may be sizes of 1.

Each `add_…` function is its op of sum = x + residual. It returns (y, sum), in one pass; the sum is rounded to x's dtype first,
so that y has the bits of an addition and the op. The backward adds the gradient of the sum in the same way. x and the residual
have one shape and one dtype.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from . import _functions, _ops

__all__ = [
    "add_derf",
    "add_dyt",
    "add_layer_norm",
    "add_rms_norm",
    "derf",
    "dyt",
    "layer_norm",
    "rms_norm",
    "set_compile_policy",
]

Modulation = tuple[Tensor, Tensor]
Call = Callable[..., Any]

#: What RMSNorm takes for eps where none is given, as torch does: the machine epsilon of x's arithmetic, float32.
_EPSILON = torch.finfo(torch.float32).eps


def set_compile_policy(policy: Literal["op", "formula"]) -> None:
    """What `torch.compile` makes of DyT and Derf on a GPU: these kernels, "op", or "formula", which it can fuse with what
    stands beside them. On the CPU it is always the kernels, which are faster. The derivative of the formula loses its
    relative accuracy where tanh saturates.
    """
    if policy not in ("op", "formula"):
        raise ValueError(f"dyt: policy is {policy!r}, expected 'op' or 'formula'")
    _functions.formula_on_gpu = policy == "formula"


def dyt(
    x: Tensor,
    alpha: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> Tensor:
    """DyT: weight · tanh(alpha · x) + bias (Zhu et al. 2025, arXiv 2503.10622).

    weight and bias have the shape of x's last dimensions, or, with `channels_last=False`, of dimension 1. alpha is one
    value. Raises a RuntimeError that names the argument where shape, dtype or device are others.
    """
    return pointwise(x, None, alpha, None, weight, bias, channels_last, modulation)


def derf(
    x: Tensor,
    alpha: Tensor,
    shift: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> Tensor:
    """Derf: weight · erf(alpha · x + shift) + bias (Chen et al. 2025, arXiv 2512.10938), with the arguments of `dyt` and a
    shift of one value.
    """
    check_shift(shift)
    return pointwise(x, None, alpha, shift, weight, bias, channels_last, modulation)


def add_dyt(
    x: Tensor,
    residual: Tensor,
    alpha: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> tuple[Tensor, Tensor]:
    """(`dyt` of sum = x + residual, sum)."""
    _check_residual(residual)
    return pointwise(x, residual, alpha, None, weight, bias, channels_last, modulation)


def add_derf(
    x: Tensor,
    residual: Tensor,
    alpha: Tensor,
    shift: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    channels_last: bool = True,
    modulation: Modulation | None = None,
) -> tuple[Tensor, Tensor]:
    """(`derf` of sum = x + residual, sum)."""
    _check_residual(residual)
    check_shift(shift)
    return pointwise(x, residual, alpha, shift, weight, bias, channels_last, modulation)


def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
    modulation: Modulation | None = None,
) -> Tensor:
    """LayerNorm: (x − mean) / √(var + eps) · weight + bias, over the last dimensions (Ba et al. 2016, arXiv 1607.06450).

    `unbiased` is the form of the Annotated Transformer: (x − mean) / (std + eps), with the sum of squares divided by one
    less than their number.
    """
    form = _ops.UNBIASED if unbiased else _ops.LAYER_NORM
    return norm(x, None, normalized_shape, weight, bias, eps, form, 0.0, modulation)


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
    modulation: Modulation | None = None,
) -> tuple[Tensor, Tensor]:
    """(`layer_norm` of sum = x + residual, sum)."""
    _check_residual(residual)
    form = _ops.UNBIASED if unbiased else _ops.LAYER_NORM
    return norm(x, residual, normalized_shape, weight, bias, eps, form, 0.0, modulation)


def rms_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
    modulation: Modulation | None = None,
) -> Tensor:
    """RMSNorm: x / √(mean x² + eps) · (weight + offset), over the last dimensions (Zhang and Sennrich 2019, arXiv
    1910.07467). Gemma's offset is 1.

    Without eps it is the machine epsilon of float32, as torch's.
    """
    return norm(x, None, normalized_shape, weight, None, eps, _ops.RMS_NORM, offset, modulation)


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
    modulation: Modulation | None = None,
) -> tuple[Tensor, Tensor]:
    """(`rms_norm` of sum = x + residual, sum)."""
    _check_residual(residual)
    return norm(x, residual, normalized_shape, weight, None, eps, _ops.RMS_NORM, offset, modulation)


# --- what they share ----------------------------------------------------------------------------------------------


def pointwise(
    x: Tensor,
    residual: Tensor | None,
    alpha: Tensor,
    shift: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    channels_last: bool,
    modulation: Modulation | None,
    call: Call = _functions.call,
) -> Any:
    """What `call` makes of DyT, or of Derf with a shift."""
    # A call more would be felt by small tensors.
    try:
        if not channels_last:
            dims = 0
        elif weight is not None:
            dims = weight.ndim or 1
        else:
            dims = 1 if bias is None else bias.ndim or 1
    except AttributeError:
        raise no_tensor("bias" if weight is None else "weight", bias if weight is None else weight) from None
    if modulation is None:
        return call(x, residual, alpha, shift, weight, bias, dims, _ops.DYT if shift is None else _ops.DERF)
    return modulated_pointwise(x, residual, alpha, shift, weight, bias, dims, modulation, call)


def modulated_pointwise(
    x: Tensor,
    residual: Tensor | None,
    alpha: Tensor,
    shift: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    dims: int,
    modulation: Modulation,
    call: Call = _functions.call,
) -> Any:
    """The same with a modulation; `dims` is as `_functions.call` has it."""
    weight, bias, offset, lead = _modulated(x, dims, weight, bias, 0.0, modulation)
    form = _ops.DYT if shift is None else _ops.DERF
    return call(x, residual, alpha, shift, weight, bias, dims, form, 0.0, lead, offset)


def norm(
    x: Tensor,
    residual: Tensor | None,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    form: int,
    offset: float,
    modulation: Modulation | None,
    call: Call = _functions.call,
) -> Any:
    """What `call` makes of the norm of that form."""
    dims = _normalized(x, normalized_shape)
    if offset != 0.0:
        if weight is None:
            raise TypeError("dyt: offset is added to weight, and weight is None")
        if not isinstance(weight, Tensor):
            raise no_tensor("weight", weight)
    eps, lead = _EPSILON if eps is None else eps, 0
    if modulation is not None:
        weight, bias, offset, lead = _modulated(x, dims, weight, bias, offset, modulation)
    elif offset == 0.0:
        return call(x, residual, None, None, weight, bias, dims, form, eps)
    return call(x, residual, None, None, weight, bias, dims, form, eps, lead, offset)


def _modulated(
    x: Tensor, dims: int, weight: Tensor | None, bias: Tensor | None, offset: float, modulation: Modulation
) -> tuple[Tensor, Tensor, float, int]:
    """weight, bias and offset of y · (1 + scale) + shift, and how many dimensions of x they have in front."""
    scale, shift = modulation
    if not isinstance(x, Tensor):
        raise no_tensor("x", x)
    own = x.shape[-dims:] if dims else x.shape[1:2]
    scale, shift = (_of_samples(name, value, x, own) for name, value in (("scale", scale), ("shift", shift)))
    lead = scale.ndim - len(own)
    if shift.ndim - len(own) != lead:
        raise RuntimeError(f"dyt: shift has shape {list(shift.shape)}, expected scale's {list(scale.shape)}")
    if weight is None and bias is None:
        return scale, shift, 1.0, lead
    factor = 1.0 + scale
    shift = shift if bias is None else bias * factor + shift
    if weight is None:
        return scale, shift, 1.0, lead
    return (weight + offset if offset else weight) * factor, shift, 0.0, lead


def _of_samples(name: str, value: Tensor, x: Tensor, own: Sequence[int]) -> Tensor:
    """scale or shift, without the sizes of 1 between the samples and the channels, over which x has other sizes."""
    if not isinstance(value, Tensor):
        raise no_tensor(name, value)
    lead = value.ndim - len(own)
    while 0 < lead <= x.ndim and value.shape[lead - 1] == 1 != x.shape[lead - 1]:
        lead -= 1
        value = value.squeeze(lead)
    expected = [*x.shape[: max(lead, 0)], *own]
    if lead < 0 or lead > x.ndim - len(own) or list(value.shape) != expected:
        raise RuntimeError(f"dyt: {name} has shape {list(value.shape)}, expected {expected}")
    return value


def check_shift(shift: Tensor) -> None:
    if shift is None:
        raise TypeError("dyt: shift is None, expected a tensor of one value")


def _check_residual(residual: Tensor) -> None:
    if not isinstance(residual, Tensor):
        raise no_tensor("residual", residual)


def no_tensor(name: str, value: object) -> TypeError:
    return TypeError(f"dyt: {name} is {type(value).__name__}, expected a tensor")


def _normalized(x: Tensor, normalized_shape: int | Sequence[int]) -> int:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    dims = len(shape)
    try:
        fits = dims and x.shape[-dims:] == shape
    except AttributeError:
        raise no_tensor("x", x) from None
    if not fits:
        raise RuntimeError(
            f"dyt: x has shape {list(x.shape)}, expected its last dimensions to be normalized_shape, {list(shape)}"
        )
    return dims
