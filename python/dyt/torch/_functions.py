"""The ops with their derivatives.

A derivative registered with an op costs more than these small calls themselves, so that each op has three forms: the op
alone where no gradient is wanted, a `torch.autograd.Function` whose forward has the context, and one of the newer form,
which is slower, where `torch.func` needs it. Without a `jvp`, which torch.compile does not take, forward mode raises.
"""

from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from . import _ops

# Where a torch has these no more, the slower form, which is right everywhere, is always taken.
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_forward_ad = forward_ad if hasattr(forward_ad, "_current_level") else SimpleNamespace(_current_level=0)
# `is_compiling` would be one more call in each small call. Tracers other than dynamo see the op within the raw one, too.
_compiling = torch.compiler.is_dynamo_compiling

# The ops without the frame of Python around them, which costs a tenth of a small call. Dynamo has to see the op itself.
_raw_pointwise, _raw_norm, _raw_norm_saving, _raw_dyt_backward, _raw_derf_backward, _raw_norm_backward = (
    getattr(op, "_op", op)
    for op in (
        _ops.pointwise,
        _ops.norm,
        _ops.norm_saving,
        _ops.dyt_backward,
        _ops.derf_backward,
        _ops.norm_backward,
    )
)


class _BackwardOnce(Function):
    """A backward where its own derivative could be asked for: then it says that there is none."""

    generate_vmap_rule = True

    @staticmethod
    def forward(op, *arguments):
        return op(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *gradients):
        raise RuntimeError("dyt: the ops have a first derivative alone; double backward is not implemented")


_dyt_backward_once = partial(_BackwardOnce.apply, _ops.dyt_backward)
_derf_backward_once = partial(_BackwardOnce.apply, _ops.derf_backward)
_norm_backward_once = partial(_BackwardOnce.apply, _ops.norm_backward)


def _backward(raw, op, once):
    """A backward as it is called: its own derivative may be asked for where it runs with gradients enabled."""
    if torch.is_grad_enabled() or _transformed():
        return once
    return op if _compiling() else raw


def _learn(kind: type) -> None:
    """Makes the rules of a kind of tensor known, when one comes along: DTensor's, whose import takes half a second.

    Refuses an x that is no tensor.
    """
    if not issubclass(kind, Tensor):
        raise TypeError(f"dyt: x is {kind.__name__}, expected a tensor")
    _known.add(kind)
    if kind.__module__.startswith("torch.distributed"):
        from . import _dtensor  # noqa: F401


_known: set[type] = {Tensor, torch.nn.Parameter}

#: Whether torch.compile makes the formula of DyT and Derf on a GPU, and not the op.
formula_on_gpu = False


# --- DyT and Derf -------------------------------------------------------------------------------------------------


def _keep_pointwise(ctx, x, alpha, shift, weight, bias, dims):
    ctx.save_for_backward(x, alpha, shift, weight)
    ctx.rest = dims, None if bias is None else bias.dtype


def _pointwise_backward(ctx, dy):
    x, alpha, shift, weight = ctx.saved_tensors
    dims, bias = ctx.rest
    need_x, need_alpha, need_shift, need_weight, need_bias, _ = ctx.needs_input_grad
    mask = need_x | need_alpha << 1 | need_weight << 2 | need_bias << 3 | need_shift << 4
    if shift is None:
        op = _backward(_raw_dyt_backward, _ops.dyt_backward, _dyt_backward_once)
        dx, dalpha, dweight, dbias = op(dy, x, alpha, weight, dims, mask)
        dshift = None
    else:
        op = _backward(_raw_derf_backward, _ops.derf_backward, _derf_backward_once)
        dx, dalpha, dweight, dbias, dshift = op(dy, x, alpha, shift, weight, dims, mask)
        dshift = dshift.to(shift.dtype) if need_shift else None
    # Kernels sum in float32, and `to` takes as long as a small kernel even where it has nothing to do.
    if need_alpha and alpha.dtype is not torch.float32:
        dalpha = dalpha.to(alpha.dtype)
    if need_weight and weight.dtype is not torch.float32:
        dweight = dweight.to(weight.dtype)
    if need_bias and bias is not torch.float32:
        dbias = dbias.to(bias)
    return (
        dx if need_x else None,
        dalpha if need_alpha else None,
        dshift,
        dweight if need_weight else None,
        dbias if need_bias else None,
        None,
    )


class _Pointwise(Function):
    @staticmethod
    def forward(ctx, x, alpha, shift, weight, bias, dims):
        _keep_pointwise(ctx, x, alpha, shift, weight, bias, dims)
        return (_ops.pointwise if _compiling() else _raw_pointwise)(x, alpha, shift, weight, bias, dims)

    backward = staticmethod(_pointwise_backward)


class _TransformedPointwise(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, alpha, shift, weight, bias, dims):
        return _ops.pointwise(x, alpha, shift, weight, bias, dims)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _keep_pointwise(ctx, *inputs)

    backward = staticmethod(_pointwise_backward)


def pointwise(
    x: Tensor, alpha: Tensor, shift: Tensor | None, weight: Tensor | None, bias: Tensor | None, dims: int
) -> Tensor:
    """DyT, or Derf where there is a shift."""
    if type(x) not in _known:
        _learn(type(x))
    if formula_on_gpu and torch.compiler.is_compiling() and x.is_cuda:
        return formula(x, alpha, shift, weight, bias, dims)
    if _transformed():
        return _TransformedPointwise.apply(x, alpha, shift, weight, bias, dims)
    if torch.is_grad_enabled() or _forward_ad._current_level >= 0:
        return _Pointwise.apply(x, alpha, shift, weight, bias, dims)
    return (_ops.pointwise if _compiling() else _raw_pointwise)(x, alpha, shift, weight, bias, dims)


def formula(
    x: Tensor, alpha: Tensor, shift: Tensor | None, weight: Tensor | None, bias: Tensor | None, dims: int
) -> Tensor:
    """The same in torch's own ops."""
    u = alpha.float() * x.float()
    y = u.tanh() if shift is None else (u + shift.float()).erf()
    across = (...,) if dims else (..., *[None] * (x.ndim - 2))
    y = y if weight is None else y * weight[across].float()
    y = y if bias is None else y + bias[across].float()
    return y.to(x.dtype)


# --- LayerNorm and RMSNorm ----------------------------------------------------------------------------------------


def _keep_norm(ctx, x, weight, bias, dims, eps, form, offset, mean, rstd):
    ctx.save_for_backward(x, weight, mean, rstd)
    ctx.arguments, ctx.bias = (dims, eps, form, offset), None if bias is None else bias.dtype


def _norm_backward(ctx, dy, *_):
    x, weight, mean, rstd = ctx.saved_tensors
    need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
    op = _backward(_raw_norm_backward, _ops.norm_backward, _norm_backward_once)
    mask = need_x | need_weight << 1 | need_bias << 2
    dx, dweight, dbias = op(dy, x, weight, mean, rstd, *ctx.arguments, mask)
    if need_weight and weight.dtype is not torch.float32:
        dweight = dweight.to(weight.dtype)
    if need_bias and ctx.bias is not torch.float32:
        dbias = dbias.to(ctx.bias)
    return (
        dx if need_x else None,
        dweight if need_weight else None,
        dbias if need_bias else None,
        None,
        None,
        None,
        None,
    )


class _Norm(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, dims, eps, form, offset):
        op = _ops.norm_saving if _compiling() else _raw_norm_saving
        y, mean, rstd = op(x, weight, bias, dims, eps, form, offset)
        _keep_norm(ctx, x, weight, bias, dims, eps, form, offset, mean, rstd)
        return y

    backward = staticmethod(_norm_backward)


class _TransformedNorm(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, bias, dims, eps, form, offset):
        return _ops.norm_saving(x, weight, bias, dims, eps, form, offset)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        _keep_norm(ctx, *inputs, mean, rstd)

    backward = staticmethod(_norm_backward)


def norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: int, eps: float, form: int, offset: float = 0.0
) -> Tensor:
    """LayerNorm, its unbiased form, or RMSNorm, as `form` says. The kernels add `offset` to weight, in float32."""
    if type(x) not in _known:
        _learn(type(x))
    if _transformed():
        return _TransformedNorm.apply(x, weight, bias, dims, eps, form, offset)[0]
    if torch.is_grad_enabled() or _forward_ad._current_level >= 0:
        return _Norm.apply(x, weight, bias, dims, eps, form, offset)
    return (_ops.norm if _compiling() else _raw_norm)(x, weight, bias, dims, eps, form, offset)
