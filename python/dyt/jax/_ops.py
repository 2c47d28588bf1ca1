"""The public functions: they check their arguments, and bring them to the form that the primitives take."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._native import DTYPES, Spec
from ._primitives import apply

Shape = int | Sequence[int]

# As in torch, whatever the dtype of x.
_RMS_EPS = float(jnp.finfo("float32").eps)


def dyt(
    x: ArrayLike,
    alpha: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    channels_last: bool = True,
) -> jax.Array:
    """weight · tanh(alpha · x) + bias, along the last axis, or along axis 1 with `channels_last=False`."""
    return _pointwise("dyt", x, {"alpha": alpha}, weight, bias, channels_last)


def derf(
    x: ArrayLike,
    alpha: ArrayLike,
    shift: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    channels_last: bool = True,
) -> jax.Array:
    """weight · erf(alpha · x + shift) + bias, along the last axis, or along axis 1 with `channels_last=False`."""
    return _pointwise("derf", x, {"alpha": alpha, "shift": shift}, weight, bias, channels_last)


def layer_norm(
    x: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    unbiased: bool = False,
) -> jax.Array:
    """(x − mean) / √(var + eps) · weight + bias over the last axes; with `unbiased`, / (std + eps) by cols − 1."""
    return norm("layer_norm", x, normalized_shape, weight, bias, eps, unbiased)


def rms_norm(
    x: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    offset: float = 0.0,
) -> jax.Array:
    """x / √(mean x² + eps) · (weight + offset) over the last axes. eps is float32's machine epsilon by default, as in torch."""
    if offset != 0.0 and weight is None:
        raise TypeError("dyt.jax.rms_norm: offset is added to weight, and weight is not given")
    return norm("rms_norm", x, normalized_shape, weight, None, _RMS_EPS if eps is None else eps, False, offset)


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


def _vectors(op: str, x: jax.Array, shape: tuple[int, ...], given: dict[str, ArrayLike | None]) -> list[jax.Array]:
    """weight and bias, those that are given, flat and in one dtype."""
    arrays = {name: _array(op, name, value) for name, value in given.items() if value is not None}
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"dyt.jax.{op}: {name} has shape {array.shape}, expected {shape}")
        if array.dtype not in (x.dtype, jnp.float32):
            raise TypeError(f"dyt.jax.{op}: {name} is {array.dtype}, expected {x.dtype} or float32")
    same = len({array.dtype for array in arrays.values()}) == 1
    return [_shaped(array if same else array.astype(jnp.float32), (prod(shape),)) for array in arrays.values()]


def _pointwise(
    op: str, x: ArrayLike, scalars: dict[str, ArrayLike], weight: ArrayLike | None, bias: ArrayLike | None, last: bool
) -> jax.Array:
    x = _array(op, "x", x)
    if not last and x.ndim < 2:
        raise ValueError(f"dyt.jax.{op}: x has shape {x.shape}, expected at least 2 axes with channels_last=False")
    data = x if x.ndim else x.reshape(1)
    axis = data.ndim - 1 if last else 1
    operands = [_scalar(op, name, value) for name, value in scalars.items()]
    operands += _vectors(op, x, (data.shape[axis],), {"weight": weight, "bias": bias})
    return _shaped(_call(op, data, axis, operands, weight, bias), x.shape)


def norm(
    op: str,
    x: ArrayLike,
    normalized_shape: Shape,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float,
    unbiased: bool,
    offset: float = 0.0,
) -> jax.Array:
    """Either norm. RMSNorm has a bias only here: Equinox's module has one."""
    x = _array(op, "x", x)
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (int(normalized_shape),)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"dyt.jax.{op}: x has shape {x.shape}, expected its last axes to be normalized_shape, {shape}")
    if not 0 <= eps < float("inf"):
        raise ValueError(f"dyt.jax.{op}: eps is {eps}, expected a finite number that is not negative")
    if unbiased and prod(shape) == 1:
        raise ValueError(f"dyt.jax.{op}: one column has no unbiased deviation")
    data = x if len(shape) == 1 else x.reshape(*x.shape[: -len(shape)], prod(shape))
    operands = _vectors(op, x, shape, {"weight": weight, "bias": bias})
    return _shaped(_call(op, data, data.ndim - 1, operands, weight, bias, float(eps), unbiased, float(offset)), x.shape)


def _call(
    op: str,
    x: jax.Array,
    axis: int,
    parameters: list[jax.Array],
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    eps: float = 0.0,
    unbiased: bool = False,
    offset: float = 0.0,
) -> jax.Array:
    if x.shape[axis] == 0:
        raise ValueError(f"dyt.jax.{op}: x has shape {x.shape}, and no columns")
    has_weight, has_bias = weight is not None, bias is not None
    spec = Spec(op, axis, 0, eps, unbiased, has_weight, has_bias, statistics=False, offset=offset)
    return apply(spec, *_varying(x, *parameters))


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
