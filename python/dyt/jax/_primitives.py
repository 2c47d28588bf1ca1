"""The forward and the backward as primitives of JAX, and their derivatives.

`custom_vjp` alone would give each example of a `vmap` gradients of its own, to be summed behind the kernels. A primitive
meets `vmap` before it meets `grad`, so that the mapped axis becomes one more axis of rows and the kernels sum.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.dispatch import prim_requires_devices_during_lowering
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import PartitionSpec as P

from . import _native, _partition
from ._native import Shape, Spec

forward_p = Primitive("dyt_forward")
forward_p.multiple_results = True
backward_p = Primitive("dyt_backward")
backward_p.multiple_results = True

Arrays = Sequence[jax.Array]

# Its type knows none of its options.
_config: Any = jax.config


def apply(spec: Spec, *operands: jax.Array) -> list[jax.Array]:
    """y, and what more spec asks for. Weight and bias have one dtype, x's or float32; alpha, shift and scale are float32 of
    the shape (1,).
    """
    return forward_p.bind(*operands, spec=spec)


@functools.partial(jax.jit, static_argnames="spec")
def _run_forward(*operands: jax.Array, spec: Spec) -> list[jax.Array]:
    return forward_p.bind(*operands, spec=spec)


@functools.partial(jax.jit, static_argnames="spec")
def _run_backward(*operands: jax.Array, spec: Spec) -> list[jax.Array]:
    return backward_p.bind(*operands, spec=spec)


forward_p.def_impl(lambda *operands, spec: _run_forward(*operands, spec=spec))
backward_p.def_impl(lambda *operands, spec: _run_backward(*operands, spec=spec))


def _avals(x: Any, shapes: Sequence[Shape]) -> list[Any]:
    """The results' types: cut over devices as x is."""

    def aval(shape: Shape) -> Any:
        sharding = x.sharding.update(spec=P(*shape.of(x.sharding.spec, None)))
        dtype = jnp.dtype(shape.dtype or x.dtype)
        return x.update(shape=shape.of(x.shape, 1), dtype=dtype, weak_type=False, sharding=sharding)

    return [aval(shape) for shape in shapes]


@forward_p.def_abstract_eval
def _forward_avals(x: Any, *_: Any, spec: Spec) -> list[Any]:
    return _avals(x, _native.result_shapes(spec, x.ndim))


@backward_p.def_abstract_eval
def _backward_avals(_dy: Any, x: Any, *_: Any, spec: Spec) -> list[Any]:
    return _avals(x, _native.gradient_shapes(spec, x.ndim))


# The one part of JAX here that is not public: `_partition` needs the devices, and JAX looks for its `custom_partitioning`
# before the lowering rules below bring it in.
prim_requires_devices_during_lowering.update((forward_p, backward_p))


def _lowering(call: Any, partitioned: Any) -> Any:
    """The call, cut over devices, or as it is within `shard_map`, whose body is of one device.

    Where `shard_map` leaves other axes of the mesh to XLA, JAX tells no rule how they cut the operands: XLA gathers them.
    """
    plain, cut = (mlir.lower_fun(function, multiple_results=True) for function in (call, partitioned))

    def rule(context: Any, *operands: Any, spec: Spec) -> Any:
        axes = context.module_context.axis_context
        manual: frozenset[Any] = getattr(axes, "manual_axes", frozenset())
        if manual and set(manual) != set(axes.mesh.axis_names) and not _config.jax_use_shardy_partitioner:
            # XLA would abort the process.
            raise NotImplementedError("dyt.jax: shard_map over some axes of a mesh needs jax_use_shardy_partitioner")
        return (plain if manual else cut)(context, *operands, spec=spec)

    return rule


def _register(platform: str) -> None:
    gpu = platform == "cuda"
    forward = _lowering(
        lambda *operands, spec: _native.forward(spec, *operands),
        lambda *operands, spec: _partition.forward(spec, *operands),
    )
    backward = _lowering(
        lambda *operands, spec: _native.backward(spec, gpu, *operands),
        lambda *operands, spec: _partition.backward(spec, gpu, *operands),
    )
    mlir.register_lowering(forward_p, forward, platform=platform)
    mlir.register_lowering(backward_p, backward, platform=platform)


_register("cpu")
_register("cuda")


# Derivatives


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _differentiable(spec: Spec, *operands: jax.Array) -> list[jax.Array]:
    return apply(spec, *operands)


def _save(spec: Spec, *operands: jax.Array) -> tuple[list[jax.Array], Any]:
    results = forward_p.bind(*operands, spec=spec._replace(statistics=spec.is_norm))
    outputs, statistics = results[: 1 + spec.residual], results[1 + spec.residual :]
    if spec.residual:
        # The residual has the gradient of x; the backward reads the sum.
        operands = (results[1], *operands[1:-1])
    return outputs, (operands, statistics)


def _gradients(spec: Spec, saved: Any, cotangents: Arrays) -> tuple[jax.Array, ...]:
    operands, statistics = saved
    # The gradients need no bias.
    read = operands[:-1] if spec.bias else operands
    dy, *dsum = cotangents
    gradients = backward_p.bind(dy, *read, *statistics, *dsum, spec=spec._replace(statistics=spec.is_norm))
    given = [_whole(gradient, operand) for gradient, operand in zip(gradients, operands, strict=True)]
    return (*given, given[0]) if spec.residual else tuple(given)


def _whole(gradient: jax.Array, operand: jax.Array) -> jax.Array:
    """The gradient of the operand: one that is the same for all groups has the sum of theirs."""
    if gradient.ndim > operand.ndim:
        gradient = gradient.sum(tuple(range(gradient.ndim - operand.ndim)))
    return gradient.astype(operand.dtype)


_differentiable.defvjp(_save, _gradients)


def _forward_jvp(primals: Arrays, tangents: Sequence[Any], *, spec: Spec) -> tuple[list[jax.Array], list[Any]]:
    if spec.quant:
        raise TypeError(f"dyt.jax.{spec.op}: a quantised result has no gradient")
    if spec.statistics:
        raise _second_derivative(spec)
    tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
    try:
        results, changes = jax.jvp(functools.partial(_differentiable, spec), tuple(primals), tuple(tangents))
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        message = (
            f"dyt.jax.{spec.op} has no derivative in forward mode (jvp, jacfwd, linearize): use grad, vjp or jacrev"
        )
        raise TypeError(message) from error
    return results, changes


def _backward_jvp(primals: Arrays, tangents: Sequence[Any], *, spec: Spec) -> Any:
    raise _second_derivative(spec)


def _second_derivative(spec: Spec) -> TypeError:
    return TypeError(f"dyt.jax.{spec.op} has no second derivative: its gradient cannot be differentiated")


ad.primitive_jvps[forward_p] = _forward_jvp
ad.primitive_jvps[backward_p] = _backward_jvp


# vmap


def _front(operand: jax.Array, dim: int | None, size: int) -> jax.Array:
    """The operand with the mapped axis in front, repeated where it has none."""
    if dim is None:
        return jnp.broadcast_to(operand, (size, *operand.shape))
    return jnp.moveaxis(operand, dim, 0)


def _size(operands: Arrays, dims: Sequence[int | None]) -> int:
    return next(operand.shape[dim] for operand, dim in zip(operands, dims, strict=True) if dim is not None)


def _grouped(parameter: jax.Array, dim: int | None, size: int, groups: tuple[int, ...]) -> jax.Array:
    """A parameter for a call with one more axis of groups. One that is the same for all groups stays as it is."""
    if dim is None:
        return parameter if parameter.ndim == 1 else _front(parameter, None, size)
    parameter = jnp.moveaxis(parameter, dim, 0)
    length = parameter.shape[-1]
    if parameter.ndim == 2:
        parameter = parameter.reshape(size, *[1] * len(groups), length)
    return jnp.broadcast_to(parameter, (size, *groups, length))


def _forward_batch(operands: Arrays, dims: Sequence[int | None], *, spec: Spec) -> tuple[list[jax.Array], list[int]]:
    # x, the parameters, and the residual, which goes where x does; a scale is a parameter.
    last = 1 + spec.parameters
    like_x = {0, last} if spec.residual else {0}
    size = _size(operands, dims)
    deeper = spec._replace(axis=spec.axis + 1)
    if all(dim is None for number, dim in enumerate(dims) if number not in like_x):
        # The mapped axis becomes one of rows.
        place = spec.groups
        moved = [
            jnp.moveaxis(_front(operand, dim, size), 0, place) if number in like_x else operand
            for number, (operand, dim) in enumerate(zip(operands, dims, strict=True))
        ]
        results = forward_p.bind(*moved, spec=deeper)
        return results, [place] * len(results)
    x = _front(operands[0], dims[0], size)
    groups = x.shape[1 : 1 + spec.groups]
    moved = [
        _front(operand, dim, size) if number in like_x else _grouped(operand, dim, size, groups)
        for number, (operand, dim) in enumerate(zip(operands, dims, strict=True))
    ]
    results = forward_p.bind(*moved, spec=deeper._replace(groups=spec.groups + 1))
    return results, [0] * len(results)


def _backward_batch(operands: Arrays, dims: Sequence[int | None], *, spec: Spec) -> tuple[list[jax.Array], list[int]]:
    size = _size(operands, dims)
    # dy and x in front, mean and rstd behind the parameters.
    last = 2 + spec.scalars + spec.weight
    x = _front(operands[1], dims[1], size)
    groups = x.shape[1 : 1 + spec.groups]
    deeper = [
        _grouped(operand, dim, size, groups) if 2 <= number < last else _front(operand, dim, size)
        for number, (operand, dim) in enumerate(zip(operands, dims, strict=True))
    ]
    results = backward_p.bind(*deeper, spec=spec._replace(axis=spec.axis + 1, groups=spec.groups + 1))
    return results, [0] * len(results)


batching.primitive_batchers[forward_p] = _forward_batch
batching.primitive_batchers[backward_p] = _backward_batch
