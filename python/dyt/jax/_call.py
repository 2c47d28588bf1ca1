"""A call of an op: its arguments, checked and brought to the form that the primitives take."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._native import DTYPES, Spec
from ._primitives import apply

Shape = int | Sequence[int]
Modulation = tuple[ArrayLike, ArrayLike]


class Extra(NamedTuple):
    """What goes beyond y = op(x)."""

    residual: ArrayLike | None = None
    modulation: Modulation | None = None
    #: The name in Rust of the dtype of a quantised y, and its scale, if that is given.
    quant: str = ""
    scale: ArrayLike | None = None


class _Affine(NamedTuple):
    """weight and bias as the kernels take them: flat, and in one dtype. Those of samples have the first axes of x in front."""

    weight: jax.Array | None
    bias: jax.Array | None
    offset: float
    lead: int = 0


def _shaped(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The array in that shape. Outside of `jit` each reshape is a call, also one that changes nothing."""
    return array if array.shape == shape else array.reshape(shape)


def _array(op: str, name: str, value: ArrayLike) -> jax.Array:
    # Outside of `jit`, `asarray` takes as long as the call, also where it changes nothing.
    array = value if isinstance(value, jax.Array) else jnp.asarray(value)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"dyt.jax.{op}: {name} is {array.dtype}, expected float32, float16 or bfloat16")
    return array


def _scalar(op: str, name: str, value: ArrayLike) -> jax.Array:
    array = value if isinstance(value, jax.Array) else jnp.asarray(value)
    if array.size != 1:
        raise ValueError(f"dyt.jax.{op}: {name} has shape {array.shape}, expected one value")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"dyt.jax.{op}: {name} is {array.dtype}, expected a floating-point value")
    return _shaped(array if array.dtype == jnp.float32 else array.astype(jnp.float32), (1,))


def _vector(op: str, x: jax.Array, shape: tuple[int, ...], name: str, value: ArrayLike | None) -> jax.Array | None:
    """weight or bias, if it is given."""
    if value is None:
        return None
    array = _array(op, name, value)
    if array.shape != shape:
        raise ValueError(f"dyt.jax.{op}: {name} has shape {array.shape}, expected {shape}")
    if array.dtype not in (x.dtype, jnp.float32):
        raise TypeError(f"dyt.jax.{op}: {name} is {array.dtype}, expected {x.dtype} or float32")
    return array


def _affine(
    op: str,
    x: jax.Array,
    shape: tuple[int, ...],
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    offset: float,
    modulation: Modulation | None,
) -> _Affine:
    """What the parameters of that shape are to the kernels."""
    made = _Affine(_vector(op, x, shape, "weight", weight), _vector(op, x, shape, "bias", bias), offset)
    if modulation is not None:
        made = _modulated(op, x, shape, made, modulation)
    given = [array for array in made[:2] if array is not None]
    same = {array.dtype for array in given} in ({x.dtype}, {jnp.dtype("float32")})

    def bring(array: jax.Array | None) -> jax.Array | None:
        if array is None:
            return None
        return _shaped(array if same else array.astype(jnp.float32), (*array.shape[: made.lead], prod(shape)))

    return made._replace(weight=bring(made.weight), bias=bring(made.bias))


def _modulated(op: str, x: jax.Array, shape: tuple[int, ...], affine: _Affine, modulation: Modulation) -> _Affine:
    """y · (1 + scale) + shift."""
    weight, bias, offset, _ = affine
    scale, shift = (
        _of_samples(op, name, _array(op, name, value), x, shape)
        for name, value in zip(("scale", "shift"), modulation, strict=True)
    )
    if scale.shape != shift.shape:
        raise ValueError(f"dyt.jax.{op}: shift has shape {shift.shape}, expected scale's {scale.shape}")
    lead = scale.ndim - len(shape)
    if bias is not None:
        shift = bias * (1 + scale) + shift
    if weight is None:
        return _Affine(scale, shift, 1.0, lead)
    return _Affine((weight + offset if offset else weight) * (1 + scale), shift, 0.0, lead)


def _of_samples(op: str, name: str, value: jax.Array, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """scale or shift, without the sizes of 1 between the samples and the channels, over which x has other sizes."""
    lead = value.ndim - len(shape)
    while 0 < lead <= x.ndim and value.shape[lead - 1] == 1 != x.shape[lead - 1]:
        lead -= 1
        value = value.squeeze(lead)
    expected = (*x.shape[: max(lead, 0)], *shape)
    if lead < 0 or value.shape != expected:
        raise ValueError(f"dyt.jax.{op}: {name} has shape {value.shape}, expected {expected}")
    return value


def pointwise(
    op: str,
    x: ArrayLike,
    scalars: Mapping[str, ArrayLike],
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    last: bool,
    extra: Extra = Extra(),  # noqa: B008
) -> Any:
    """DyT or Derf."""
    x = _array(op, "x", x)
    if not last and x.ndim < 2:
        raise ValueError(f"dyt.jax.{op}: x has shape {x.shape}, expected at least 2 axes with channels_last=False")
    data = x if x.ndim else x.reshape(1)
    axis = data.ndim - 1 if last else 1
    ready = [_scalar(op, name, value) for name, value in scalars.items()]
    affine = _affine(op, x, (data.shape[axis],), weight, bias, 0.0, extra.modulation)
    return _call(op, x, data.shape, axis, ready, affine, extra)


def norm(
    op: str,
    x: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    unbiased: bool,
    offset: float = 0.0,
    extra: Extra = Extra(),  # noqa: B008
) -> Any:
    """Either norm. RMSNorm has a bias only here: Equinox's module has one."""
    x = _array(op, "x", x)
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (int(normalized_shape),)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"dyt.jax.{op}: x has shape {x.shape}, expected its last axes to be normalized_shape, {shape}")
    if not 0 <= eps < float("inf"):
        raise ValueError(f"dyt.jax.{op}: eps is {eps}, expected a finite number that is not negative")
    if unbiased and prod(shape) == 1:
        raise ValueError(f"dyt.jax.{op}: one column has no unbiased deviation")
    data = x.shape if len(shape) == 1 else (*x.shape[: -len(shape)], prod(shape))
    affine = _affine(op, x, shape, weight, bias, float(offset), extra.modulation)
    return _call(op, x, data, len(data) - 1, [], affine, extra, float(eps), unbiased)


def _call(
    op: str,
    x: jax.Array,
    data: tuple[int, ...],
    axis: int,
    scalars: list[jax.Array],
    affine: _Affine,
    extra: Extra,
    eps: float = 0.0,
    unbiased: bool = False,
) -> Any:
    """y, and what more `extra` asks for, of x in the shape `data`."""
    if data[axis] == 0:
        raise ValueError(f"dyt.jax.{op}: x has shape {x.shape}, and no columns")
    operands = [_shaped(x, data), *scalars, *(array for array in affine[:2] if array is not None)]
    if extra.residual is not None:
        residual = _array(op, "residual", extra.residual)
        if (residual.shape, residual.dtype) != (x.shape, x.dtype):
            words = f"is {residual.dtype} of shape {residual.shape}, expected x's {x.dtype} of shape {x.shape}"
            raise ValueError(f"dyt.jax.{op}: residual {words}")
        operands.append(_shaped(residual, data))
    if extra.scale is not None:
        operands.append(_scalar(op, "scale", extra.scale))
    spec = Spec(
        op,
        axis,
        affine.lead,
        eps,
        unbiased,
        affine.weight is not None,
        affine.bias is not None,
        statistics=False,
        offset=affine.offset,
        residual=extra.residual is not None,
        quant=extra.quant,
        scale=extra.scale is not None,
    )
    y, *more = apply(spec, *_varying(*operands))
    y = _shaped(y, x.shape)
    total = (_shaped(more[0], x.shape),) if spec.residual else ()
    if not extra.quant:
        return (y, *total) if total else y
    return (y, operands[-1] if spec.scale else more[-1], *total)


def _varying(*operands: jax.Array) -> list[jax.Array]:
    """The operands, all varying over the mesh axes of a `shard_map` that one of them varies over.

    The derivative of this cast sums the gradients of a parameter that is the same on all devices.
    """
    over = [_axes(operand) for operand in operands]
    every = frozenset().union(*over)
    return [
        operand if axes == every else _cast(operand, tuple(sorted(every - axes, key=str)))
        for operand, axes in zip(operands, over, strict=True)
    ]


def _axes(operand: jax.Array) -> frozenset[Any]:
    """The mesh axes that the operand varies over, by the name of each version of JAX."""
    aval = jax.typeof(operand)
    manual = getattr(aval, "manual_axis_type", None)
    return getattr(aval, "vma", frozenset()) if manual is None else manual.varying


def _cast(operand: jax.Array, axes: tuple[Any, ...]) -> jax.Array:
    # Each version's types know one of the two.
    lax: Any = jax.lax
    return lax.pcast(operand, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(operand, axes)
