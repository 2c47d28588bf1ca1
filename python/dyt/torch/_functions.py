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
_raw_forward, _raw_saving, _raw_backward = (getattr(op, "_op", op) for op in (_ops.forward, _ops.saving, _ops.backward))


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


_backward_once = partial(_BackwardOnce.apply, _ops.backward)


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


def _keep(ctx, x, alpha, shift, weight, bias, residual, options, mean, rstd):
    """x is the sum, where there is a residual."""
    form = options[1]
    if form >= _ops.RMS_NORM:
        mean = None
    if form >= _ops.DYT:
        rstd = None
    ctx.save_for_backward(x, alpha, shift, weight, mean, rstd)
    ctx.rest = options, residual is not None, None if bias is None else bias.dtype


def _backward(ctx, dy, dsum=None, *_):
    x, alpha, shift, weight, mean, rstd = ctx.saved_tensors
    options, has_residual, bias = ctx.rest
    need_x, need_alpha, need_shift, need_weight, need_bias, need_residual, *_ = ctx.needs_input_grad
    none = (None,) * len(options)
    if dy is None:  # Only the sum was used.
        return dsum, None, None, None, None, dsum if need_residual else None, *none
    mask = (need_x or need_residual) | need_alpha << 1 | need_shift << 2 | need_weight << 3 | need_bias << 4
    # The derivative of the backward may be asked for where it runs with gradients enabled.
    if torch.is_grad_enabled() or _transformed():
        op = _backward_once
    else:
        op = _ops.backward if _compiling() else _raw_backward
    dx, dalpha, dshift, dweight, dbias = op(
        dy, x, alpha, shift, weight, mean, rstd, dsum if has_residual else None, mask, *options
    )
    # Kernels sum in float32, and `to` takes as long as a small kernel even where it has nothing to do.
    if need_alpha and alpha.dtype is not torch.float32:
        dalpha = dalpha.to(alpha.dtype)
    if need_shift and shift.dtype is not torch.float32:
        dshift = dshift.to(shift.dtype)
    if need_weight and weight.dtype is not torch.float32:
        dweight = dweight.to(weight.dtype)
    if need_bias and bias is not torch.float32:
        dbias = dbias.to(bias)
    return (
        dx if need_x else None,
        dalpha if need_alpha else None,
        dshift if need_shift else None,
        dweight if need_weight else None,
        dbias if need_bias else None,
        dx if need_residual else None,
        *none,
    )


class _Op(Function):
    """y, or (y, sum) with a residual."""

    # Dynamo of torch 2.9 counts the parameters to tell whether the first one is the context.
    @staticmethod
    def forward(ctx, x, alpha, shift, weight, bias, residual, dims, form, eps, lead, offset):
        options = (dims, form, eps, lead, offset)
        if residual is None and form >= _ops.DYT:
            _keep(ctx, x, alpha, shift, weight, bias, None, options, None, None)
            return (_ops.forward if _compiling() else _raw_forward)(x, alpha, shift, weight, bias, *options)
        op = _ops.saving if _compiling() else _raw_saving
        y, total, mean, rstd = op(x, alpha, shift, weight, bias, residual, *options)
        if residual is None:
            _keep(ctx, x, alpha, shift, weight, bias, None, options, mean, rstd)
            return y
        ctx.set_materialize_grads(False)
        _keep(ctx, total, alpha, shift, weight, bias, residual, options, mean, rstd)
        return y, total

    backward = staticmethod(_backward)


class _TransformedOp(Function):
    """(y, sum, mean, rstd), of which those that the op does not have are without elements."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, alpha, shift, weight, bias, residual, dims, form, eps, lead, offset):
        return _ops.saving(x, alpha, shift, weight, bias, residual, dims, form, eps, lead, offset)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, alpha, shift, weight, bias, residual, *options = inputs
        _, total, mean, rstd = output
        ctx.mark_non_differentiable(*((mean, rstd) if residual is not None else (total, mean, rstd)))
        _keep(ctx, x if residual is None else total, alpha, shift, weight, bias, residual, tuple(options), mean, rstd)

    backward = staticmethod(_backward)


def call(
    x: Tensor,
    residual: Tensor | None,
    alpha: Tensor | None,
    shift: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    dims: int,
    form: int,
    eps: float = 0.0,
    lead: int = 0,
    offset: float = 0.0,
):
    """y, or (y, sum) with a residual.

    `dims` is how many of x's last dimensions weight and bias have, or 0 for the second one, and `lead` how many of its first.
    `form` says the op. The kernels add `offset` to weight, in float32.
    """
    if type(x) not in _known:
        _learn(type(x))
    if formula_on_gpu and alpha is not None and torch.compiler.is_compiling() and x.is_cuda:
        total = x if residual is None else x + residual
        y = formula(total, alpha, shift, weight, bias, dims, lead, offset)
        return y if residual is None else (y, total)
    if _transformed():
        y, total, *_ = _TransformedOp.apply(x, alpha, shift, weight, bias, residual, dims, form, eps, lead, offset)
        return y if residual is None else (y, total)
    if torch.is_grad_enabled() or _forward_ad._current_level >= 0:
        return _Op.apply(x, alpha, shift, weight, bias, residual, dims, form, eps, lead, offset)
    if residual is None:
        op = _ops.forward if _compiling() else _raw_forward
        if lead or offset:
            return op(x, alpha, shift, weight, bias, dims, form, eps, lead, offset)
        return op(x, alpha, shift, weight, bias, dims, form, eps)
    op = _ops.saving if _compiling() else _raw_saving
    return op(x, alpha, shift, weight, bias, residual, dims, form, eps, lead, offset)[:2]


def quantised(quant, scale, x, residual, alpha, shift, weight, bias, *options):
    """(y, scales), or (y, scales, sum) with a residual. `quant` is the place of y's dtype in `_ops.QUANTS`."""
    if type(x) not in _known:
        _learn(type(x))
    tensors = (x, residual, alpha, shift, weight, bias, scale)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        raise RuntimeError("dyt: a quantised result has no gradient; call it within torch.no_grad()")
    y, total, scales = _ops.quantised(x, alpha, shift, weight, bias, residual, scale, quant, *options)
    scales = scales if scale is None else scale
    return (y, scales) if residual is None else (y, scales, total)


def formula(
    x: Tensor,
    alpha: Tensor,
    shift: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    dims: int,
    lead: int = 0,
    offset: float = 0.0,
) -> Tensor:
    """DyT and Derf in torch's own ops."""
    u = alpha.float() * x.float()
    y = u.tanh() if shift is None else (u + shift.float()).erf()
    if dims:
        between, behind = [1] * (x.ndim - lead - dims), []
    else:
        between, behind = [1] * (1 - lead), [1] * (x.ndim - 2)
    across = lambda vector: vector.float().reshape(*vector.shape[:lead], *between, *vector.shape[lead:], *behind)
    y = y if weight is None else y * (across(weight) + offset)
    y = y if bias is None else y + across(bias)
    return y.to(x.dtype)
