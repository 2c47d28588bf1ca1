"""How a call is cut over devices under plain `jit`: each device calls the kernels on its own part of x.

DyT and Derf are cut along any axis of x, the norms along any but the one that they take their statistics of. The only
communication is the sum of the parameters' gradients over the devices that have other rows, for alpha and shift also
over those that have other columns.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from . import _native
from ._native import Shape, Spec

Call = Callable[..., list[jax.Array]]


def forward(spec: Spec, *operands: jax.Array) -> list[jax.Array]:
    """`_native.forward`, cut as its operands are."""
    rank, batched = operands[0].ndim, _batched(operands[1:])
    return _forward(spec, rank, batched)(*operands)


def backward(spec: Spec, gpu: bool, *operands: jax.Array) -> list[jax.Array]:
    """`_native.backward`, cut as its operands are."""
    rank, batched = operands[1].ndim, _batched(operands[2 : 2 + spec.scalars + spec.weight])
    return _backward(spec, gpu, rank, batched)(*operands)


def _batched(parameters: Sequence[jax.Array]) -> tuple[bool, ...]:
    return tuple(parameter.ndim > 1 for parameter in parameters)


@functools.lru_cache(maxsize=None)
def _forward(spec: Spec, rank: int, batched: tuple[bool, ...]) -> Call:
    operands = _native.operand_shapes(spec, rank, batched)
    results = [operands[0], *_native.saved_shapes(spec, rank)]
    call = functools.partial(_native.forward, spec)
    return _cut(spec, rank, operands, results, call, lambda results, names: results)


@functools.lru_cache(maxsize=None)
def _backward(spec: Spec, gpu: bool, rank: int, batched: tuple[bool, ...]) -> Call:
    operands = _native.operand_shapes(spec, rank, batched)
    operands = [operands[0], *operands, *_native.saved_shapes(spec, rank)]
    results = _native.gradient_shapes(spec, rank)

    def add(gradients: list[jax.Array], names: list[tuple[str, ...]]) -> list[jax.Array]:
        rows = [name for axis in range(spec.groups, rank) if axis != spec.axis for name in names[axis]]
        dx, scalars, vectors = gradients[:1], gradients[1 : 1 + spec.scalars], gradients[1 + spec.scalars :]
        return dx + _sum(scalars, (*rows, *names[spec.axis])) + _sum(vectors, tuple(rows))

    return _cut(spec, rank, operands, results, functools.partial(_native.backward, spec, gpu), add)


def _sum(arrays: list[jax.Array], names: tuple[str, ...]) -> list[jax.Array]:
    return list(jax.lax.psum(arrays, names)) if arrays and names else arrays


def _cut(
    spec: Spec,
    rank: int,
    operands: Sequence[Shape],
    results: Sequence[Shape],
    call: Call,
    add: Callable[[list[jax.Array], list[tuple[str, ...]]], list[jax.Array]],
) -> Call:
    """The call, cut as x is; `add` sums the results over the mesh axes that each axis of x is cut over."""
    # The last operand that has all axes of x: x itself, in the backward behind dy.
    x = max(number for number, shape in enumerate(operands) if len(shape.axes) == rank)

    def shardings(arguments: Sequence[Any]) -> tuple[Any, list[Any], tuple[NamedSharding, ...], list[NamedSharding]]:
        sharding = arguments[x].sharding
        if not isinstance(sharding, NamedSharding):
            raise NotImplementedError(f"dyt.jax: arrays on several devices need a NamedSharding, not {sharding}")
        entries = [*sharding.spec, *[None] * (rank - len(sharding.spec))]
        if spec.is_norm:
            entries[spec.axis] = None
        named = lambda shapes: [NamedSharding(sharding.mesh, P(*shape.of(entries, None))) for shape in shapes]
        return sharding.mesh, entries, tuple(named(operands)), named(results)

    def partition(mesh: Any, arguments: Sequence[Any], _: Any) -> tuple[Any, Call, list[NamedSharding], tuple[NamedSharding, ...]]:
        mesh, entries, of_operands, of_results = shardings(arguments)
        names = [() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in entries]

        def part(*operands: jax.Array) -> list[jax.Array]:
            with _without_mesh():
                return add(call(*operands), names)

        return mesh, part, of_results, of_operands

    def infer(mesh: Any, arguments: Sequence[Any], _: Any) -> list[NamedSharding]:
        return shardings(arguments)[3]

    cut = custom_partitioning(call)
    factors = [f"a{axis}" for axis in range(rank)]
    side = lambda shapes: ", ".join(" ".join(shape.of(factors, "one")) for shape in shapes)
    options = {"need_replication_factors": (factors[spec.axis],)} if spec.is_norm and _KNOWS_REPLICATION else {}
    cut.def_partition(
        partition=partition,
        infer_sharding_from_operands=infer,
        sharding_rule=f"{side(operands)} -> {side(results)}",
        **options,
    )
    return cut


_KNOWS_REPLICATION = "need_replication_factors" in inspect.signature(custom_partitioning.def_partition).parameters


def _without_mesh() -> AbstractContextManager[Any]:
    """Hides the mesh of `jax.set_mesh`: what one device does has no part in it, and JAX 0.12 would cut the sums again."""
    if jax.sharding.get_abstract_mesh().empty or not hasattr(jax.sharding, "use_abstract_mesh"):
        return nullcontext()
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ()))
