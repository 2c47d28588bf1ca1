"""The ops as torch knows them: schemas, shapes for tracing, and rules for `torch.vmap`. The kernels are in Rust.

None of them has a derivative of its own: `_functions.py` puts them together.
"""

from torch.library import Library, register_fake, register_vmap

import torch
from torch import Tensor

from .. import _dyt
from ._layout import channels, is_dense

#: A copy of the package under another name, such as a kernel of the Hugging Face hub, has ops of its own.
NAMESPACE = __name__.removesuffix(".torch._ops").replace(".", "_")

#: `form` of the norms.
LAYER_NORM, UNBIASED, RMS_NORM = range(3)

_library = Library(NAMESPACE, "DEF")
for _schema in (
    "pointwise(Tensor x, Tensor alpha, Tensor? shift, Tensor? weight, Tensor? bias, int dims) -> Tensor",
    "dyt_backward(Tensor dy, Tensor x, Tensor alpha, Tensor? weight, int dims, int mask) -> (Tensor, Tensor, Tensor, Tensor)",
    "derf_backward(Tensor dy, Tensor x, Tensor alpha, Tensor shift, Tensor? weight, int dims, int mask)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    "norm(Tensor x, Tensor? weight, Tensor? bias, int dims, float eps, int form) -> Tensor",
    "norm_saving(Tensor x, Tensor? weight, Tensor? bias, int dims, float eps, int form) -> (Tensor, Tensor, Tensor)",
    "norm_backward(Tensor dy, Tensor x, Tensor? weight, Tensor mean, Tensor rstd, int dims, float eps, int form, int mask)"
    " -> (Tensor, Tensor, Tensor)",
):
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides))

_dyt.torch_register(NAMESPACE)

_namespace = getattr(torch.ops, NAMESPACE)
pointwise = _namespace.pointwise.default
dyt_backward = _namespace.dyt_backward.default
derf_backward = _namespace.derf_backward.default
norm = _namespace.norm.default
norm_saving = _namespace.norm_saving.default
norm_backward = _namespace.norm_backward.default


# --- shapes -------------------------------------------------------------------------------------------------------


def _like(x: Tensor, dims: int) -> Tensor:
    if is_dense(x, dims):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
    return x.new_empty(x.shape)


def _gradients(x: Tensor, dims: int, mask: int, *shapes) -> list[Tensor]:
    """dx, and a gradient in float32 of each shape; those that the mask leaves out have no elements."""
    single = [x.new_empty(shape if mask >> at & 1 else 0, dtype=torch.float32) for at, shape in enumerate(shapes, 1)]
    return [_like(x, dims) if mask & 1 else x.new_empty(0, dtype=torch.float32), *single]


def _parameter_shape(x: Tensor, dims: int) -> tuple[int, ...]:
    return tuple(x.shape[at] for at in channels(x.ndim, dims)) or (1,)


def _statistics(x: Tensor, dims: int) -> Tensor:
    y = _like(x, dims)
    rows = channels(x.ndim, dims).start
    cols = 1
    for size in _parameter_shape(x, dims):
        cols *= size
    strides = [stride // max(cols, 1) for stride in y.stride()[:rows]]
    return torch.empty_strided(x.shape[:rows], strides, dtype=torch.float32, device=x.device)


@register_fake(f"{NAMESPACE}::pointwise")
def _(x, alpha, shift, weight, bias, dims):
    return _like(x, dims)


@register_fake(f"{NAMESPACE}::dyt_backward")
def _(dy, x, alpha, weight, dims, mask):
    shape = _parameter_shape(x, dims)
    return tuple(_gradients(x, dims, mask, alpha.shape, shape, shape))


@register_fake(f"{NAMESPACE}::derf_backward")
def _(dy, x, alpha, shift, weight, dims, mask):
    shape = _parameter_shape(x, dims)
    return tuple(_gradients(x, dims, mask, alpha.shape, shape, shape, shift.shape))


@register_fake(f"{NAMESPACE}::norm")
def _(x, weight, bias, dims, eps, form):
    return _like(x, dims)


@register_fake(f"{NAMESPACE}::norm_saving")
def _(x, weight, bias, dims, eps, form):
    mean = x.new_empty(0, dtype=torch.float32) if form == RMS_NORM else _statistics(x, dims)
    return _like(x, dims), mean, _statistics(x, dims)


@register_fake(f"{NAMESPACE}::norm_backward")
def _(dy, x, weight, mean, rstd, dims, eps, form, mask):
    shape = _parameter_shape(x, dims)
    return tuple(_gradients(x, dims, mask, shape, shape))


# --- vmap ---------------------------------------------------------------------------------------------------------


def _batched(tensor, dim, size):
    """The tensor with the batch as its first dimension, whether it had one or not."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _one_by_one(op, info, in_dims, arguments):
    """A call for each element of the batch."""
    results = [
        op(*(value if dim is None else value.select(dim, at) for value, dim in zip(arguments, in_dims, strict=True)))
        for at in range(info.batch_size)
    ]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    return tuple(torch.stack(column) for column in zip(*results, strict=True)), (0,) * len(results[0])


def _register_vmap(op, tensors_of_rows):
    """Where x alone has a batch, it is one more dimension of rows; else there is a call for each element."""

    def rule(info, in_dims, *arguments):
        dims = arguments[op._schema.arguments.index(next(a for a in op._schema.arguments if a.name == "dims"))]
        alone = all(dim is None for dim in in_dims[tensors_of_rows:])
        x = arguments[tensors_of_rows - 1]
        # A tensor without dimensions has a column all the same, and channels-first data has but one dimension in front.
        if alone and dims and info.batch_size and x.ndim - (in_dims[tensors_of_rows - 1] is not None) >= dims:
            rows = [_batched(t, d, info.batch_size) for t, d in zip(arguments[:tensors_of_rows], in_dims)]
            results = op(*rows, *arguments[tensors_of_rows:])
            out = 0 if isinstance(results, Tensor) else tuple(None if t.ndim == 1 and t.numel() == 0 else 0 for t in results)
            return results, out
        return _one_by_one(op, info, in_dims, arguments)

    register_vmap(op, rule)


_register_vmap(pointwise, 1)
_register_vmap(norm, 1)
_register_vmap(norm_saving, 1)
for _op in (dyt_backward, derf_backward, norm_backward):
    register_vmap(_op, lambda info, in_dims, *arguments, op=_op: _one_by_one(op, info, in_dims, arguments))
