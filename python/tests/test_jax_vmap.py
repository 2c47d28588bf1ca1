"""vmap of dyt.jax, around and within grad: the same bits as one call for each example."""

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp
import numpy as np
from jax_cases import OPS, array, case, check, equal, rows

SIZE = 3


def by_hand(function, axes, arguments):
    """What vmap computes, one example after the other."""
    pick = lambda argument, axis, at: argument if axis is None else jnp.take(argument, at, axis)
    results = [
        function(*(pick(argument, axis, at) for argument, axis in zip(arguments, axes, strict=True)))
        for at in range(SIZE)
    ]
    return jax.tree.map(lambda *results: jnp.stack(results), *results)


def batched(rng, made, names, place=0):
    """The arguments, those in `names` drawn anew for each example along the axis `place`, and the axes for vmap."""
    axes = [place if name in names else None for name in made.arguments]
    draw = lambda value: jnp.stack([value + array(rng, value.shape, value.dtype, 0.1) for _ in range(SIZE)], place)
    arguments = [draw(value) if axis is not None else value for value, axis in zip(made.values, axes, strict=True)]
    return arguments, tuple(axes)


def subsets(made):
    """x alone, all, and each argument alone."""
    return [("x",), tuple(made.arguments), *((name,) for name in made.arguments if name != "x")]


@pytest.mark.parametrize("dtype", ("float32", "bfloat16"))
@pytest.mark.parametrize("op", OPS)
def test_forward(rng, op, dtype):
    made = case(rng, op, (4, 21), dtype)
    for names in subsets(made):
        for place in (0, 1):
            arguments, axes = batched(rng, made, names, place)
            assert equal(jax.vmap(made, axes)(*arguments), by_hand(made, axes, arguments)), (names, place)
            assert equal(
                jax.jit(jax.vmap(made, axes, 1))(*arguments), jnp.moveaxis(by_hand(made, axes, arguments), 0, 1)
            )


def gradients(made):
    """The gradients of all arguments, for a y that counts differently everywhere."""
    # Not a sum of squares: XLA may round those otherwise in another program, and the bits are compared here.
    shape = made.arguments["x"].shape
    weights = jnp.asarray(np.cos(np.arange(np.prod(shape)).reshape(shape)), made.dtype)
    return jax.grad(
        lambda *arguments: (made(*arguments) * weights).astype("float32").sum(), tuple(range(len(made.arguments)))
    )


@pytest.mark.parametrize("dtype", ("float32", "float16"))
@pytest.mark.parametrize("op", OPS)
def test_gradients_of_each_example(rng, op, dtype):
    made = case(rng, op, (4, 21), dtype)
    function = gradients(made)
    for names in subsets(made):
        arguments, axes = batched(rng, made, names)
        assert equal(jax.vmap(function, axes)(*arguments), by_hand(function, axes, arguments)), names


@pytest.mark.parametrize("op", ("dyt", "derf"))
def test_channels_first(rng, op):
    made = case(rng, op, (2, 5, 7), axis=1)
    for function in (made, gradients(made)):
        for names in subsets(made):
            for place in (0, 1):
                arguments, axes = batched(rng, made, names, place)
                assert equal(jax.vmap(function, axes)(*arguments), by_hand(function, axes, arguments)), (names, place)


@pytest.mark.parametrize("op", OPS)
def test_vmap_of_vmap(rng, op):
    """Every pair of sets of arguments that the two vmaps map."""
    made = case(rng, op, (2, 9))

    def compare(function, first, second):
        inner, inner_axes = batched(rng, made, first)
        axes = tuple(0 if name in second else None for name in made.arguments)
        arguments = [jnp.stack([value] * SIZE) if axis == 0 else value for value, axis in zip(inner, axes, strict=True)]
        arguments = [value + array(rng, value.shape, value.dtype, 0.1) for value in arguments]
        mapped = jax.vmap(jax.vmap(function, inner_axes), axes)(*arguments)
        expected = by_hand(lambda *values: by_hand(function, inner_axes, values), axes, arguments)
        assert equal(mapped, expected), (first, second)

    sets = subsets(made)[:3]
    for function in (made, gradients(made)):
        for first in sets:
            for second in sets:
                compare(function, first, second)


@pytest.mark.parametrize("op", OPS)
def test_gradient_of_vmap(rng, op):
    """Parameters that are not mapped get one gradient, which the kernel sums: the bits of the call without vmap."""
    made = case(rng, op, (SIZE, 4, 21))
    arguments, axes = made.values, (0, *[None] * (len(made.arguments) - 1))
    dy = array(rng, arguments[0].shape, "float32")

    def pull(function):
        y, back = jax.vjp(function, *arguments)
        return y, back(dy)

    mapped = pull(lambda *arguments: jax.vmap(made, axes)(*arguments))
    assert equal(mapped, pull(made))
    check(made, *mapped, dy)
    twice = pull(lambda *arguments: jax.vmap(jax.vmap(made, axes), axes)(*arguments))
    assert equal(twice, mapped)


@pytest.mark.parametrize("op", OPS)
def test_gradient_of_vmap_over_parameters(rng, op):
    made = case(rng, op, (4, 21))
    arguments, axes = batched(rng, made, tuple(made.arguments)[1:])
    dy = array(rng, (SIZE, 4, 21), "float32")
    _, back = jax.vjp(jax.vmap(made, axes), *arguments)
    dx, *parameters = back(dy)

    def example(dy, *arguments):
        return jax.vjp(made, *arguments)[1](dy)

    each = by_hand(example, (0, *axes), [dy, *arguments])
    assert equal(parameters, each[1:])
    np.testing.assert_allclose(dx, each[0].sum(0), rtol=1e-5, atol=1e-5)


def equations(jaxpr, name):
    """The equations of that primitive, also within other equations."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == name:
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner, name)


@pytest.mark.parametrize("op", OPS)
def test_parameters_that_are_not_mapped_stay_as_they_are(rng, op):
    made = case(rng, op, (SIZE, 4, 21))
    axes = (0, *[None] * (len(made.arguments) - 1))

    def shapes(function, name):
        found = list(equations(jax.make_jaxpr(function)(*made.values).jaxpr, name))
        assert len(found) == 1
        return [variable.aval.shape for variable in found[0].invars], found[0].params["spec"].groups

    mapped = jax.vmap(made, axes)
    operands, groups = shapes(mapped, "dyt_forward")
    assert groups == 0 and operands[0] == (SIZE, 4, 21) and all(len(shape) == 1 for shape in operands[1:])
    operands, groups = shapes(
        jax.grad(lambda *arguments: mapped(*arguments).sum(), tuple(range(len(axes)))), "dyt_backward"
    )
    assert groups == 0 and all(shape in ((SIZE, 4, 21), (SIZE, 4), (1,), (21,)) for shape in operands)
    # Gradients of each example: they have groups, and still the parameters have none.
    operands, groups = shapes(jax.vmap(gradients(case_of(made)), axes), "dyt_backward")
    assert groups == 1 and all(shape in ((SIZE, 4, 21), (SIZE, 4), (1,), (21,)) for shape in operands)


def case_of(made):
    """The same function for one example."""
    return type(made)(made.function, {**made.arguments, "x": made.arguments["x"][0]}, made.dtype)


def test_no_examples(rng):
    made = case(rng, "layer_norm", (2, 9))
    none = jnp.zeros((0, 2, 9))
    assert jax.vmap(made, (0, None, None))(none, *made.values[1:]).shape == (0, 2, 9)
    shapes = [gradient.shape for gradient in jax.vmap(gradients(made), (0, None, None))(none, *made.values[1:])]
    assert shapes == [(0, 2, 9), (0, 9), (0, 9)]


def test_the_formulas_hold_under_vmap(rng):
    """One check against float64 here: the others compare bits with calls that test_jax.py checks."""
    made = case(rng, "derf", (6, 30), "bfloat16")
    x, *parameters = made.values
    y = jax.vmap(lambda x: made(x, *parameters))(x)
    made.formula(rows(x)).y().check("y", rows(y))
