"""The ops as torch knows them: schemas, shapes for tracing, and rules for `torch.vmap`. The kernels are in Rust.

None of them has a derivative of its own: `_functions.py` puts them together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

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
    "norm(Tensor x, Tensor? weight, Tensor? bias, int dims, float eps, int form, float offset) -> Tensor",
    "norm_saving(Tensor x, Tensor? weight, Tensor? bias, int dims, float eps, int form, float offset) -> (Tensor, Tensor, Tensor)",
    "norm_backward(Tensor dy, Tensor x, Tensor? weight, Tensor mean, Tensor rstd, int dims, float eps, int form,"
    " float offset, int mask) -> (Tensor, Tensor, Tensor)",
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


def _check(x: Tensor, dims: int, **others: Tensor | None) -> None:
    """Refuses what `src/torch/operand.rs` refuses, in its words. Meta comes before CPU and CUDA where tensors are mixed."""
    _check_dtype("x", x)
    if x.ndim < (dims or 2) and (x.ndim, dims) != (0, 1):
        raise RuntimeError(f"dyt: x has shape {list(x.shape)}, expected at least {dims or 2} dimensions")
    for name, tensor in others.items():
        if tensor is None:
            continue
        if tensor.device != x.device:
            raise RuntimeError(f"dyt: {name} lies on another device than x")
        if name in ("alpha", "shift"):
            _check_sizes(name, tensor, (tensor.numel(),), (1,), "one value")
        else:
            expected = _expected_shape(name, x, dims)
            _check_sizes(name, tensor, tensor.shape, expected, str(list(expected)))
        _check_dtype(name, tensor)


def _check_dtype(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise RuntimeError(f"dyt: {name} is {dtype}, expected float32, float16 or bfloat16")


def _expected_shape(name: str, x: Tensor, dims: int) -> tuple[int, ...]:
    if name == "dy":
        return tuple(x.shape)
    if name in ("mean", "rstd"):
        return tuple(x.shape[: channels(x.ndim, dims).start])
    return _parameter_shape(x, dims)


def _check_sizes(name: str, tensor: Tensor, sizes: Sequence[int], expected: Sequence[int], words: str) -> None:
    # `torch._check` leaves sizes that a trace does not know to run time.
    refusal = lambda: f"dyt: {name} has shape {list(tensor.shape)}, expected {words}"
    torch._check(len(sizes) == len(expected), refusal)
    for size, other in zip(sizes, expected):
        torch._check(size == other, refusal)


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
    _check(x, dims, alpha=alpha, shift=shift, weight=weight, bias=bias)
    return _like(x, dims)


@register_fake(f"{NAMESPACE}::dyt_backward")
def _(dy, x, alpha, weight, dims, mask):
    _check(x, dims, dy=dy, alpha=alpha, weight=weight)
    shape = _parameter_shape(x, dims)
    return tuple(_gradients(x, dims, mask, alpha.shape, shape, shape))


@register_fake(f"{NAMESPACE}::derf_backward")
def _(dy, x, alpha, shift, weight, dims, mask):
    _check(x, dims, dy=dy, alpha=alpha, shift=shift, weight=weight)
    shape = _parameter_shape(x, dims)
    return tuple(_gradients(x, dims, mask, alpha.shape, shape, shape, shift.shape))


@register_fake(f"{NAMESPACE}::norm")
def _(x, weight, bias, dims, eps, form, offset):
    _check(x, dims, weight=weight, bias=bias)
    return _like(x, dims)


@register_fake(f"{NAMESPACE}::norm_saving")
def _(x, weight, bias, dims, eps, form, offset):
    _check(x, dims, weight=weight, bias=bias)
    mean = x.new_empty(0, dtype=torch.float32) if form == RMS_NORM else _statistics(x, dims)
    return _like(x, dims), mean, _statistics(x, dims)


@register_fake(f"{NAMESPACE}::norm_backward")
def _(dy, x, weight, mean, rstd, dims, eps, form, offset, mask):
    # mean of RMSNorm has no elements.
    _check(x, dims, dy=dy, weight=weight, mean=None if form == RMS_NORM else mean, rstd=rstd)
    shape = _parameter_shape(x, dims)
    return tuple(_gradients(x, dims, mask, shape, shape))


# --- vmap ---------------------------------------------------------------------------------------------------------


def _one_by_one(op, info, in_dims, arguments):
    """A call for each element of the batch."""
    results = [
        op(*(value if dim is None else value.select(dim, at) for value, dim in zip(arguments, in_dims, strict=True)))
        for at in range(info.batch_size)
    ]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    return tuple(torch.stack(column) for column in zip(*results, strict=True)), (0,) * len(results[0])


def _forward_rule(op):
    """A batch of x alone is one more dimension of rows, in front."""
    at = [argument.name for argument in op._schema.arguments].index("dims")

    def rule(info, in_dims, x, *rest):
        dims = rest[at - 1]
        # Channels-first data has but one dimension in front, and x without dimensions has a column all the same.
        rows = dims > 0 and x.ndim - 1 >= dims and in_dims[0] is not None and all(dim is None for dim in in_dims[1:])
        if not rows:
            return _one_by_one(op, info, in_dims, (x, *rest))
        results = op(x.movedim(in_dims[0], 0), *rest)
        if isinstance(results, Tensor):
            return results, 0
        # mean of RMSNorm has no elements, and so no batch.
        return results, tuple(None if result.shape == (0,) else 0 for result in results)

    register_vmap(op, rule)


def _backward_rule(op):
    register_vmap(op, lambda info, in_dims, *arguments: _one_by_one(op, info, in_dims, arguments))


for _op in (pointwise, norm, norm_saving):
    _forward_rule(_op)
for _op in (dyt_backward, derf_backward, norm_backward):
    _backward_rule(_op)
