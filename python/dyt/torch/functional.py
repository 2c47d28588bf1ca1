"""The ops as functions of tensors.

x is float32, float16 or bfloat16, and so is the result, under autocast too. Parameters are of x's dtype or float32 (others
are brought to float32), and their gradients are of their own dtype. Arithmetic is float32. x may lie in memory in whatever
way; where its elements lie side by side and the parameters run along the innermost ones, it is not copied.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from . import _functions, _ops

__all__ = ["derf", "dyt", "layer_norm", "rms_norm", "set_compile_policy"]

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
    x: Tensor, alpha: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, channels_last: bool = True
) -> Tensor:
    """DyT: weight · tanh(alpha · x) + bias.

    weight and bias have the shape of x's last dimensions, or, with `channels_last=False`, of dimension 1. alpha is one
    value. Raises a RuntimeError that names the argument where shape, dtype or device are others.
    """
    return _pointwise(x, alpha, None, weight, bias, channels_last)


def derf(
    x: Tensor,
    alpha: Tensor,
    shift: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    channels_last: bool = True,
) -> Tensor:
    """Derf: weight · erf(alpha · x + shift) + bias, with the arguments of `dyt` and a shift of one value."""
    if shift is None:
        raise TypeError("dyt: shift is None, expected a tensor of one value")
    return _pointwise(x, alpha, shift, weight, bias, channels_last)


def _pointwise(
    x: Tensor, alpha: Tensor, shift: Tensor | None, weight: Tensor | None, bias: Tensor | None, channels_last: bool
) -> Tensor:
    # A call more would be felt by small tensors.
    try:
        if not channels_last:
            dims = 0
        elif weight is not None:
            dims = weight.ndim or 1
        else:
            dims = 1 if bias is None else bias.ndim or 1
    except AttributeError:
        raise _no_tensor("bias" if weight is None else "weight", bias if weight is None else weight) from None
    return _functions.pointwise(x, alpha, shift, weight, bias, dims)


def _no_tensor(name: str, value: object) -> TypeError:
    return TypeError(f"dyt: {name} is {type(value).__name__}, expected a tensor")


def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
) -> Tensor:
    """LayerNorm: (x − mean) / √(var + eps) · weight + bias, over the last dimensions.

    `unbiased` is the form of the Annotated Transformer: (x − mean) / (std + eps), with the sum of squares divided by one
    less than their number.
    """
    dims = _normalized(x, normalized_shape)
    return _functions.norm(x, weight, bias, dims, eps, _ops.UNBIASED if unbiased else _ops.LAYER_NORM)


def rms_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
) -> Tensor:
    """RMSNorm: x / √(mean x² + eps) · (weight + offset), over the last dimensions. Gemma's offset is 1.

    Without eps it is the machine epsilon of float32, as torch's.
    """
    dims = _normalized(x, normalized_shape)
    if offset != 0.0:
        if weight is None:
            raise TypeError("dyt: offset is added to weight, and weight is None")
        if not isinstance(weight, Tensor):
            raise _no_tensor("weight", weight)
    return _functions.norm(x, weight, None, dims, _EPSILON if eps is None else eps, _ops.RMS_NORM, offset)


def _normalized(x: Tensor, normalized_shape: int | Sequence[int]) -> int:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    dims = len(shape)
    try:
        fits = dims and x.shape[-dims:] == shape
    except AttributeError:
        raise _no_tensor("x", x) from None
    if not fits:
        raise RuntimeError(
            f"dyt: x has shape {list(x.shape)}, expected its last dimensions to be normalized_shape, {list(shape)}"
        )
    return dims
