"""The ops as torch knows them: schemas, shapes for tracing, and rules for `torch.vmap`. The kernels are in Rust.

One op serves DyT, Derf and the norms, as `form` says. None of them has a derivative of its own: `_functions.py` puts them
together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from .. import _dyt
from ._layout import ANY, GRADIENT, SIDE_BY_SIDE, channels, plan

#: A copy of the package under another name, such as a kernel of the Hugging Face hub, has ops of its own.
NAMESPACE = __name__.removesuffix(".torch._ops").replace(".", "_")

#: `form`. Those from DYT on have alpha, and no statistics.
LAYER_NORM, UNBIASED, RMS_NORM, DYT, DERF = range(5)

#: The dtypes of a quantised y, by the op's argument `quant`.
QUANTS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)

# `dims` is how many of x's last dimensions the parameters have, or 0 for the second one; `lead` how many of its first ones.
# They are the last arguments of each op, so that a small call need not hand over the defaults: each takes 0.2 µs.
_OPTIONS = "int dims, int form, float eps=0.0, int lead=0, float offset=0.0"
_FORWARD = "Tensor x, Tensor? alpha, Tensor? shift, Tensor? weight, Tensor? bias"

_library = Library(NAMESPACE, "DEF")
for _schema in (
    f"forward({_FORWARD}, {_OPTIONS}) -> Tensor",
    f"saving({_FORWARD}, Tensor? residual, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor)",
    f"quantised({_FORWARD}, Tensor? residual, Tensor? scale, int quant, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    "backward(Tensor dy, Tensor x, Tensor? alpha, Tensor? shift, Tensor? weight, Tensor? mean, Tensor? rstd, Tensor? dsum,"
    f" int mask, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
):
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides))

_dyt.torch_register(NAMESPACE)

_namespace = getattr(torch.ops, NAMESPACE)
#: y.
forward = _namespace.forward.default
#: (y, sum, mean, rstd); those that the op does not have are without elements.
saving = _namespace.saving.default
#: (y, sum, scales); sum without a residual, and scales with a scale, are without elements.
quantised = _namespace.quantised.default
#: (dx, dalpha, dshift, dweight, dbias), those of the bits of `mask`; the others are without elements.
backward = _namespace.backward.default


# --- shapes -------------------------------------------------------------------------------------------------------


def _check(x: Tensor, dims: int, lead: int, form: int, **others: Tensor | None) -> None:
    """Refuses what `src/torch/operand.rs` refuses, in its words. Meta comes before CPU and CUDA where tensors are mixed."""
    _check_dtype("x", x)
    least = lead + dims if dims else 2
    if x.ndim < least and (x.ndim, dims, lead) != (0, 1, 0):
        raise RuntimeError(f"dyt: x has shape {list(x.shape)}, expected at least {least} dimensions")
    for name, tensor in others.items():
        if tensor is None:
            if name == "alpha" and form >= DYT or name == "shift" and form == DERF:
                raise RuntimeError(f"dyt: {name} is no tensor")
            continue
        if tensor.device != x.device:
            raise RuntimeError(f"dyt: {name} lies on another device than x")
        if name in ("alpha", "shift", "scale"):
            _check_sizes(name, tensor, (tensor.numel(),), (1,), "one value")
        else:
            expected = _expected_shape(name, x, dims, lead)
            _check_sizes(name, tensor, tensor.shape, expected, str(list(expected)))
        _check_dtype(name, tensor)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_dtype(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise RuntimeError(f"dyt: {name} is {_name(tensor.dtype)}, expected float32, float16 or bfloat16")


def _check_residual(x: Tensor, residual: Tensor | None) -> None:
    if residual is not None and residual.dtype != x.dtype:
        raise RuntimeError(f"dyt: residual is {_name(residual.dtype)}, expected x's {_name(x.dtype)}")


def _expected_shape(name: str, x: Tensor, dims: int, lead: int) -> tuple[int, ...]:
    if name in ("dy", "dsum", "residual"):
        return tuple(x.shape)
    if name in ("mean", "rstd"):
        return tuple(x.shape[: channels(x.ndim, dims).start])
    return _parameter_shape(x, dims, lead)


def _check_sizes(name: str, tensor: Tensor, sizes: Sequence[int], expected: Sequence[int], words: str) -> None:
    # `torch._check` leaves sizes that a trace does not know to run time.
    refusal = lambda: f"dyt: {name} has shape {list(tensor.shape)}, expected {words}"
    torch._check(len(sizes) == len(expected), refusal)
    for size, other in zip(sizes, expected):
        torch._check(size == other, refusal)


def _parameter_shape(x: Tensor, dims: int, lead: int) -> tuple[int, ...]:
    own = tuple(x.shape[at] for at in channels(x.ndim, dims)) or (1,)
    return (*x.shape[:lead], *own)


def _empty(x: Tensor, strides: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty_strided(x.shape, strides, dtype=dtype or x.dtype, device=x.device)


def _none(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The place of a result that is absent."""
    return x.new_empty(0, dtype=dtype)


def _statistics(x: Tensor, strides: Sequence[int], dims: int) -> Tensor:
    """One value for each row, beside a y of these strides."""
    rows = channels(x.ndim, dims).start
    cols = 1
    for size in _parameter_shape(x, dims, 0):
        cols *= size
    strides = [stride // max(cols, 1) for stride in strides[:rows]]
    return torch.empty_strided(x.shape[:rows], strides, dtype=torch.float32, device=x.device)


@register_fake(f"{NAMESPACE}::forward")
def _(x, alpha, shift, weight, bias, dims, form, eps=0.0, lead=0, offset=0.0):
    _check(x, dims, lead, form, alpha=alpha, shift=shift, weight=weight, bias=bias)
    return _empty(x, plan(x, dims, lead, ANY)[0])


@register_fake(f"{NAMESPACE}::saving")
def _(x, alpha, shift, weight, bias, residual, dims, form, eps=0.0, lead=0, offset=0.0):
    _check(x, dims, lead, form, alpha=alpha, shift=shift, weight=weight, bias=bias, residual=residual)
    _check_residual(x, residual)
    strides, _ = plan(x, dims, lead, ANY if residual is None else SIDE_BY_SIDE)
    total = _none(x, x.dtype) if residual is None else _empty(x, strides)
    mean = _none(x) if form >= RMS_NORM else _statistics(x, strides, dims)
    rstd = _none(x) if form >= DYT else _statistics(x, strides, dims)
    return _empty(x, strides), total, mean, rstd


@register_fake(f"{NAMESPACE}::quantised")
def _(x, alpha, shift, weight, bias, residual, scale, quant, dims, form, eps=0.0, lead=0, offset=0.0):
    _check(x, dims, lead, form, alpha=alpha, shift=shift, weight=weight, bias=bias, residual=residual, scale=scale)
    _check_residual(x, residual)
    strides, _ = plan(x, dims, lead, ANY if residual is None else SIDE_BY_SIDE)
    total = _none(x, x.dtype) if residual is None else _empty(x, strides)
    scales = _statistics(x, strides, dims) if scale is None else _none(x)
    return _empty(x, strides, QUANTS[quant]), total, scales


@register_fake(f"{NAMESPACE}::backward")
def _(dy, x, alpha, shift, weight, mean, rstd, dsum, mask, dims, form, eps=0.0, lead=0, offset=0.0):
    _check(
        x, dims, lead, form, alpha=alpha, shift=shift, weight=weight, dy=dy, dsum=dsum, mean=mean, rstd=rstd
    )  # fmt: skip
    strides, in_place = plan(x, dims, lead, GRADIENT)
    vector = _parameter_shape(x, dims, lead)
    shapes = (alpha if alpha is None else alpha.shape, shift if shift is None else shift.shape, vector, vector)
    single = [x.new_empty(shape if mask >> at & 1 else 0, dtype=torch.float32) for at, shape in enumerate(shapes, 1)]
    return _empty(x, x.stride() if in_place else strides) if mask & 1 else _none(x), *single


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
    """A batch of x alone, and of its residual, is one more dimension of rows, in front."""
    names = [argument.name for argument in op._schema.arguments]
    dims_at, lead_at = names.index("dims"), names.index("lead")
    like_x = [at for at, name in enumerate(names) if name in ("x", "residual")]

    def rule(info, in_dims, *arguments):
        dims, x = arguments[dims_at], arguments[0]
        lead = arguments[lead_at] if len(arguments) > lead_at else 0
        batched = [at for at, dim in enumerate(in_dims) if dim is not None]
        given = [at for at in like_x if arguments[at] is not None]
        # Channels-first data has but one dimension in front, and x without dimensions has a column all the same.
        if not dims or lead or x.ndim - 1 < dims or batched != given:
            return _one_by_one(op, info, in_dims, arguments)
        results = op(*(value.movedim(in_dims[at], 0) if at in given else value for at, value in enumerate(arguments)))
        if isinstance(results, Tensor):
            return results, 0
        # What is absent has no elements, and so no batch.
        return results, tuple(None if result.shape == (0,) else 0 for result in results)

    register_vmap(op, rule)


for _op in (forward, saving, quantised):
    _forward_rule(_op)
register_vmap(backward, lambda info, in_dims, *arguments: _one_by_one(backward, info, in_dims, arguments))
