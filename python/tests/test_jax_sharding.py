"""dyt.jax on arrays that are cut over four devices of the host: right, and with no more communication than it takes."""

import pytest

jax = pytest.importorskip("jax")

import re

import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax_cases import NORMS, OPS, array, case, check

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "collective-broadcast", "reduce-scatter")
SHAPE = (8, 6, 32)
#: What x is cut along, on a mesh of 2 × 2 devices.
CUTS = [P("a"), P(("a", "b")), P("a", "b"), P(None, None, "b"), P("a", None, "b"), P(None, None, ("a", "b")), P()]
POINTWISE = ("dyt", "derf")


@pytest.fixture(params=("Auto", "Explicit"))
def mesh(request):
    kind = getattr(jax.sharding.AxisType, request.param)
    return jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))


def cut(made, mesh, spec, axis=-1):
    """The arguments on the devices of the mesh: weight and bias cut as x is along their axis."""
    entries = [*spec, *[None] * (made.arguments["x"].ndim - len(spec))]
    specs = {"x": spec, "alpha": P(), "shift": P(), "weight": P(entries[axis]), "bias": P(entries[axis])}
    return [jax.device_put(value, NamedSharding(mesh, specs[name])) for name, value in made.arguments.items()]


def count(compiled):
    """The collectives of the compiled program, by name, with the shape of each."""
    text = compiled.as_text()
    found = {name: re.findall(rf"= (\S+|\([^)]*\)) {name}(?:-start)?\(", text) for name in COLLECTIVES}
    return {name: shapes for name, shapes in found.items() if shapes}


def both(made):
    def function(dy, *arguments):
        y, pull = jax.vjp(made, *arguments)
        return y, pull(dy)

    return function


def compiled(made, mesh, spec, rng, axis=-1):
    arguments = cut(made, mesh, spec, axis)
    dy = array(rng, made.arguments["x"].shape, made.dtype)
    dy = jax.device_put(dy, arguments[0].sharding)
    forward = jax.jit(made).lower(*arguments).compile()
    program = jax.jit(both(made)).lower(dy, *arguments).compile()
    return forward, program, dy, arguments


@pytest.mark.parametrize("spec", CUTS, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_values_and_gradients(rng, mesh, op, spec):
    made = case(rng, op, SHAPE)
    forward, program, dy, arguments = compiled(made, mesh, spec, rng)
    y, gradients = program(dy, *arguments)
    check(made, y, gradients, dy)
    np.testing.assert_array_equal(forward(*arguments), y)


@pytest.mark.parametrize("spec", CUTS, ids=str)
@pytest.mark.parametrize("op", POINTWISE)
def test_collectives_of_the_pointwise_ops(rng, mesh, op, spec):
    """None forward; backward the sum of alpha's and shift's gradients, and of weight's and bias's where rows are cut."""
    made = case(rng, op, SHAPE)
    forward, program, dy, arguments = compiled(made, mesh, spec, rng)
    assert count(forward) == {}
    assert forward(*arguments).sharding.is_equivalent_to(arguments[0].sharding, 3)
    entries = [*spec, None, None, None][:3]
    scalars = 1 if op == "dyt" else 2
    sums = scalars * any(entries) + 2 * any(entries[:2])
    found = count(program)
    assert set(found) == ({"all-reduce"} if sums else set())
    # XLA puts several sums into one collective, or leaves them apart.
    shapes = [shape for collective in found.get("all-reduce", []) for shape in re.findall(r"f32\[\d*\]", collective)]
    columns = 32 // (4 if entries[2] == ("a", "b") else 2 if entries[2] else 1)
    assert set(shapes) <= {"f32[1]", "f32[]", f"f32[{columns}]"} and len(shapes) == sums, found


@pytest.mark.parametrize("op", POINTWISE)
def test_collectives_of_a_hidden_dimension(rng, mesh, op):
    """The claim of the README, by itself: a cut hidden dimension costs one value of alpha, one of shift, and nothing else."""
    made = case(rng, op, SHAPE)
    forward, program, _, _ = compiled(made, mesh, P(None, None, ("a", "b")), rng)
    assert count(forward) == {}
    found = count(program)
    assert list(found) == ["all-reduce"]
    assert all(re.fullmatch(r"[(]?(f32\[1?\](\{0\})?(, )?)+[)]?", shape) for shape in found["all-reduce"]), found


@pytest.mark.parametrize("op", NORMS)
def test_collectives_of_the_norms(rng, mesh, op):
    """Cut rows cost the sum of the parameters' gradients, as they must; a cut hidden dimension is gathered."""
    made = case(rng, op, SHAPE)
    forward, program, _, _ = compiled(made, mesh, P("a", "b"), rng)
    assert count(forward) == {} and list(count(program)) == ["all-reduce"]
    forward, _, _, _ = compiled(made, mesh, P(None, None, "b"), rng)
    assert list(count(forward)) == ["all-gather"]


@pytest.mark.parametrize("spec", (P("a"), P(None, "b"), P(None, None, "a", "b")), ids=str)
@pytest.mark.parametrize("op", POINTWISE)
def test_channels_first(rng, mesh, op, spec):
    made = case(rng, op, (4, 6, 2, 10), axis=1)
    forward, program, dy, arguments = compiled(made, mesh, spec, rng, axis=1)
    y, gradients = program(dy, *arguments)
    check(made, y, gradients, dy, axis=1)
    assert count(forward) == {} and set(count(program)) == {"all-reduce"}


@pytest.mark.parametrize("spec", (P("a"), P(("a", "b")), P("a", "b"), P(None, None, "b"), P("a", None, "b")), ids=str)
@pytest.mark.parametrize("op", OPS)
def test_axes_that_the_devices_do_not_divide(rng, op, spec):
    """XLA pads the parts. What it pads them with, here NaN, is in no sum."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    made = case(rng, op, (7, 5, 31))
    x, *parameters = made.values
    dy = array(rng, x.shape, "float32")
    widen = lambda value: jnp.full((8, 6, 32), jnp.nan).at[:7, :5, :31].set(value)
    cut = lambda value: jax.lax.with_sharding_constraint(value, NamedSharding(mesh, spec))

    @jax.jit
    def function(dy, x, *parameters):
        # Cut while they are wide, so that what is behind their ends remains in the parts.
        narrow = lambda value: cut(cut(value)[:7, :5, :31])
        y, pull = jax.vjp(made, narrow(x), *parameters)
        return cut(y), *pull(narrow(dy))

    y, dx, *gradients = function(widen(dy), widen(x), *parameters)
    check(made, y, (dx, *gradients), dy)


@pytest.mark.parametrize("op", OPS)
def test_gradients_of_each_example(rng, mesh, op):
    """A mapped axis that is cut, with one gradient for each example, and parameters of each example."""
    made = case(rng, op, SHAPE[1:])
    function = both(made)
    arguments = [jnp.stack([value * scale for scale in range(1, 9)]) for value in made.values]
    dy = array(rng, SHAPE, "float32")
    for axes in ((0,) * len(arguments), (0, *[None] * (len(arguments) - 1))):
        given = [value if axis == 0 else value[0] for value, axis in zip(arguments, axes, strict=True)]
        mapped = jax.vmap(function, (0, *axes))
        place = lambda value, axis: jax.device_put(value, NamedSharding(mesh, P("a" if axis == 0 else None)))
        program = jax.jit(mapped).lower(place(dy, 0), *map(place, given, axes)).compile()
        assert count(program) == {}
        jax.tree.map(np.testing.assert_array_equal, program(place(dy, 0), *map(place, given, axes)), mapped(dy, *given))


@pytest.mark.parametrize("check_vma", (True, False))
@pytest.mark.parametrize("spec", (P("a"), P(None, None, ("a", "b")), P("a", None, "b")), ids=str)
@pytest.mark.parametrize("op", POINTWISE)
def test_shard_map(rng, op, spec, check_vma):
    """Around it the gradient of a parameter that is the same on all devices is the sum over them."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    made = case(rng, op, SHAPE)
    arguments = cut(made, mesh, spec)
    specs = tuple(argument.sharding.spec for argument in arguments)
    mapped = jax.shard_map(made, mesh=mesh, in_specs=specs, out_specs=spec, check_vma=check_vma)
    dy = array(rng, SHAPE, "float32")

    def function(dy, *arguments):
        y, pull = jax.vjp(mapped, *arguments)
        return y, pull(dy)

    y, gradients = jax.jit(function)(dy, *arguments)
    check(made, y, gradients, dy)
    assert count(jax.jit(mapped).lower(*arguments).compile()) == {}


@pytest.mark.parametrize("op", OPS)
def test_shard_map_of_some_axes(rng, op):
    """The other axes of the mesh are XLA's, which gathers them: right, if not cheap."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    made = case(rng, op, SHAPE)
    arguments = cut(made, mesh, P("a", None, "b"))
    specs = (P("a"), *[P()] * (len(arguments) - 1))
    mapped = jax.shard_map(made, mesh=mesh, in_specs=specs, out_specs=P("a"), axis_names={"a"})
    dy = array(rng, SHAPE, "float32")

    def function(dy, *arguments):
        y, pull = jax.vjp(mapped, *arguments)
        return y, pull(dy)

    if not jax.config.jax_use_shardy_partitioner:
        with pytest.raises(NotImplementedError, match="needs jax_use_shardy_partitioner"):
            jax.jit(function)(dy, *arguments)
        return
    check(made, *jax.jit(function)(dy, *arguments), dy)


@pytest.mark.parametrize("op", NORMS)
def test_shard_map_of_the_norms(rng, op):
    """Rows; within shard_map the hidden dimension is what each device has."""
    mesh = jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    made = case(rng, op, SHAPE)
    specs = (P("a"), *[P()] * (len(made.arguments) - 1))
    mapped = jax.shard_map(made, mesh=mesh, in_specs=specs, out_specs=P("a"))
    dy = array(rng, SHAPE, "float32")
    y, pull = jax.vjp(mapped, *made.values)
    check(made, y, pull(dy), dy)


def test_set_mesh(rng, mesh):
    if not hasattr(jax, "set_mesh"):
        pytest.skip("this JAX has no jax.set_mesh")
    with jax.set_mesh(mesh):
        for op in OPS:
            for spec in (P("a"), P(None, None, "b")):
                made = case(rng, op, SHAPE)
                _, program, dy, arguments = compiled(made, mesh, spec, rng)
                check(made, *program(dy, *arguments), dy)


def test_one_device_of_several(rng):
    made = case(rng, "dyt", (5, 9))
    device = jax.devices()[2]
    arguments = [jax.device_put(value, device) for value in made.values]
    y = jax.jit(made)(*arguments)
    assert y.devices() == {device}
    np.testing.assert_array_equal(y, made(*made.values))
