"""How a call is cut over devices under plain `jit`: each device calls the kernels on its own part of x.

DyT and Derf are cut along any axis of x, the norms along any but the one that they take their statistics of. The only
communication is the sum of the parameters' gradients over the devices that have other rows, for alpha and shift also
over those that have other columns.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from . import _native
from ._native import Shape, Spec

Call = Callable[..., list[jax.Array]]


def forward(spec: Spec, *operands: jax.Array) -> list[jax.Array]:
    """`_native.forward`, cut as its operands are."""
    rank = operands[0].ndim
    batched = _batched([*operands[1 : 1 + spec.parameters], *(operands[-1:] if spec.scale else ())])
    return _forward(spec, rank, batched)(*operands)


def backward(spec: Spec, gpu: bool, *operands: jax.Array) -> list[jax.Array]:
    """`_native.backward`, cut as its operands are."""
    rank, batched = operands[1].ndim, _batched(operands[2 : 2 + spec.scalars + spec.weight])
    return _backward(spec, gpu, rank, batched)(*operands)


def _batched(parameters: Sequence[jax.Array]) -> tuple[bool, ...]:
    return tuple(parameter.ndim > 1 for parameter in parameters)


class _Cut(NamedTuple):
    """How x is cut: for each of its axes the axes of the mesh, major first, and how many elements it has in all."""

    names: list[tuple[str, ...]]
    shape: tuple[int, ...]
    mesh: Any


@functools.cache
def _forward(spec: Spec, rank: int, batched: tuple[bool, ...]) -> Call:
    operands = _native.operand_shapes(spec, rank, batched)
    results = _native.result_shapes(spec, rank)
    return _partitioned(
        spec, operands, results, 0, functools.partial(_native.forward, spec), lambda cut, call, *parts: call(*parts)
    )


@functools.cache
def _backward(spec: Spec, gpu: bool, rank: int, batched: tuple[bool, ...]) -> Call:
    operands = _native.operand_shapes(spec._replace(residual=False), rank, batched)
    dsum = operands[:1] * spec.residual
    operands = [operands[0], *operands, *_native.saved_shapes(spec, rank), *dsum]
    results = _native.gradient_shapes(spec, rank)

    def part(cut: _Cut, call: Call, *parts: jax.Array) -> list[jax.Array]:
        gradients = call(
            *(
                _without_padding(cut, *pair, 1 if number else 0)
                for number, pair in enumerate(zip(operands, parts, strict=True))
            )
        )
        rows = [name for axis in range(spec.groups, rank) if axis != spec.axis for name in cut.names[axis]]
        dx, scalars, vectors = gradients[:1], gradients[1 : 1 + spec.scalars], gradients[1 + spec.scalars :]
        return dx + _sum(scalars, (*rows, *cut.names[spec.axis])) + _sum(vectors, tuple(rows))

    return _partitioned(spec, operands, results, 1, functools.partial(_native.backward, spec, gpu), part)


def _sum(arrays: list[jax.Array], names: tuple[str, ...]) -> list[jax.Array]:
    return list(jax.lax.psum(arrays, names)) if arrays and names else arrays


def _without_padding(cut: _Cut, shape: Shape, part: jax.Array, fill: float) -> jax.Array:
    """The part with `fill` behind the end of the whole.

    An axis that its devices do not divide is padded with anything, which the sums must not see: there dy is 0, and all else
    is 1, with which every term is 0.
    """
    for place, axis in enumerate(shape.axes):
        local, whole = part.shape[place], cut.shape[axis]
        if local * prod(cut.mesh.shape[name] for name in cut.names[axis]) != whole:
            index = jax.lax.axis_index(cut.names[axis]) * local + jax.lax.broadcasted_iota("int32", part.shape, place)
            part = jnp.where(index < whole, part, jnp.asarray(fill, part.dtype))
    return part


def _partitioned(
    spec: Spec,
    operands: Sequence[Shape],
    results: Sequence[Shape],
    x: int,
    call: Call,
    part: Callable[..., list[jax.Array]],
) -> Call:
    """The call, cut as the operand number `x` is: each device computes `part` of its own operands."""
    rank = len(operands[x].axes)
    # A scale of a row is one of whole rows.
    whole = spec.is_norm or bool(spec.quant) and not spec.scale

    def shardings(arguments: Sequence[Any]) -> tuple[Any, list[Any], tuple[NamedSharding, ...], list[NamedSharding]]:
        sharding = arguments[x].sharding
        if not isinstance(sharding, NamedSharding):
            raise NotImplementedError(f"dyt.jax: arrays on several devices need a NamedSharding, not {sharding}")
        entries = [*sharding.spec, *[None] * (rank - len(sharding.spec))]
        if whole:
            entries[spec.axis] = None
        named = lambda shapes: [NamedSharding(sharding.mesh, P(*shape.of(entries, None))) for shape in shapes]
        return sharding.mesh, entries, tuple(named(operands)), named(results)

    def partition(
        _mesh: Any, arguments: Sequence[Any], _: Any
    ) -> tuple[Any, Call, list[NamedSharding], tuple[NamedSharding, ...]]:
        mesh, entries, of_operands, of_results = shardings(arguments)
        names = [() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in entries]
        cut = _Cut(names, arguments[x].shape, mesh)

        def local(*parts: jax.Array) -> list[jax.Array]:
            with _without_mesh():
                return part(cut, call, *parts)

        return mesh, local, of_results, of_operands

    def infer(_mesh: Any, arguments: Sequence[Any], _: Any) -> list[NamedSharding]:
        return shardings(arguments)[3]

    function = custom_partitioning(call)
    factors = [f"a{axis}" for axis in range(rank)]
    side = lambda shapes: ", ".join(" ".join(shape.of(factors, "one")) for shape in shapes)
    options = {"need_replication_factors": (factors[spec.axis],)} if whole and _KNOWS_REPLICATION else {}
    function.def_partition(
        partition=partition,
        infer_sharding_from_operands=infer,
        sharding_rule=f"{side(operands)} -> {side(results)}",
        **options,
    )
    return function


_KNOWS_REPLICATION = "need_replication_factors" in inspect.signature(custom_partitioning.def_partition).parameters


def _without_mesh() -> AbstractContextManager[Any]:
    """Hides the mesh of `jax.set_mesh`: what one device does has no part in it, and JAX 0.12 would cut the sums again."""
    if jax.sharding.get_abstract_mesh().empty or not hasattr(jax.sharding, "use_abstract_mesh"):
        return nullcontext()
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ()))
