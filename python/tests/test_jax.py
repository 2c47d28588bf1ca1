"""dyt.jax against the formulas, and what it refuses."""

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp
import numpy as np
from jax_cases import NORMS, OPS, array, case, check, equal, run

import dyt.jax
from dyt.jax import _native

DTYPES = ("float32", "float16", "bfloat16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("param", ("own", "float32"))
@pytest.mark.parametrize("op", OPS)
def test_values_and_gradients(rng, op, dtype, param):
    for shape in ((1, 2), (5, 17), (2, 3, 129), (rng.integers(1, 40), rng.integers(2, 900)), (4, 1, 3, 64)):
        made = case(rng, op, tuple(map(int, shape)), dtype, dtype if param == "own" else param)
        check(made, *run(made, rng))


@pytest.mark.parametrize("weight", (False, True))
@pytest.mark.parametrize("bias", (False, True))
@pytest.mark.parametrize("op", OPS)
def test_absent_parameters(rng, op, weight, bias):
    made = case(rng, op, (6, 33), "bfloat16", weight=weight, bias=bias)
    check(made, *run(made, rng))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ("dyt", "derf"))
def test_channels_first(rng, op, dtype):
    for shape in ((3, 7), (2, 5, 11), (2, 3, 4, 5), (1, 16, 9)):
        made = case(rng, op, shape, dtype, axis=1)
        check(made, *run(made, rng), axis=1)


@pytest.mark.parametrize("op", OPS)
def test_several_threads_and_eagerly(rng, op):
    made = case(rng, op, (300, 1024))
    check(made, *run(made, rng, jit=False))


@pytest.mark.parametrize("op", OPS)
def test_jit_changes_no_bit(rng, op):
    made = case(rng, op, (5, 77), "float16")
    assert equal(jax.jit(made)(*made.values), made(*made.values))


def test_weight_and_bias_of_two_dtypes(rng):
    made = case(rng, "dyt", (4, 30), "bfloat16")
    made.arguments["bias"] = array(rng, (30,), "float32")
    check(made, *run(made, rng))


@pytest.mark.parametrize("op", ("dyt", "derf"))
def test_scalars(rng, op):
    x = array(rng, (3, 8), "float32")
    scalars = [0.7, 0.2][: 1 if op == "dyt" else 2]
    function = getattr(dyt.jax, op)
    expected = function(x, *(jnp.full((1,), scalar) for scalar in scalars))
    assert equal(function(x, *scalars), expected)
    assert equal(function(x, *map(jnp.float32, scalars)), expected)
    gradient = jax.grad(lambda alpha: function(x, alpha, *scalars[1:]).sum())(jnp.float32(0.7))
    assert gradient.shape == ()
    # x without axes is one column.
    assert equal(function(x[0, 0], *scalars), expected[0, 0])


def test_several_normalized_axes(rng):
    x, weight, bias = (array(rng, shape, "float32") for shape in ((5, 4, 6), (4, 6), (4, 6)))
    flat = dyt.jax.layer_norm(x.reshape(5, 24), 24, weight.reshape(24), bias.reshape(24))
    assert equal(dyt.jax.layer_norm(x, (4, 6), weight, bias), flat.reshape(x.shape))


def test_offset(rng):
    x, weight = array(rng, (5, 24), "bfloat16"), array(rng, (24,), "bfloat16", 0.1)
    shifted = dyt.jax.rms_norm(x, 24, weight.astype(jnp.float32) + 1, 1e-6)
    assert equal(dyt.jax.rms_norm(x, 24, weight, 1e-6, offset=1.0), shifted)
    gradient = jax.grad(lambda weight: dyt.jax.rms_norm(x, 24, weight, offset=1.0).astype(jnp.float32).sum())(weight)
    assert gradient.dtype == weight.dtype


@pytest.mark.parametrize("op", OPS)
def test_no_rows(rng, op):
    made = case(rng, op, (0, 3, 9))
    y, gradients, _ = run(made, rng)
    assert y.shape == (0, 3, 9) and gradients[0].shape == (0, 3, 9)
    assert all(not np.asarray(gradient).any() for gradient in gradients[1:])


def test_no_elements_behind_the_channels(rng):
    made = case(rng, "derf", (2, 5, 0), axis=1)
    y, gradients, _ = run(made, rng)
    assert y.shape == (2, 5, 0)
    assert all(not np.asarray(gradient).any() for gradient in gradients[1:])


def test_subnormals_are_kept(rng):
    """XLA's own threads flush them, and so would the kernels' threads that are started from there."""
    for rows in (1, 400):
        x = jnp.full((rows, 1024), 1e-40)
        (y, dx) = jax.jit(lambda x: (dyt.jax.dyt(x, 1.0), jax.grad(lambda x: (1e-38 * dyt.jax.dyt(x, 0.5)).sum())(x)))(
            x
        )
        assert equal(y, x)
        assert equal(dx, jnp.asarray(np.full(x.shape, np.float32(1e-38) * np.float32(0.5))))


def test_under_scan_and_checkpoint(rng):
    made = case(rng, "layer_norm", (4, 32))
    x, weight, bias = made.values

    def layers(wrap):
        step = wrap(lambda x, _: (made(x, weight, bias), None))
        return jax.grad(lambda x: (jax.lax.scan(step, x, None, length=3)[0] ** 2).sum())(x)

    plain = jax.grad(lambda x: (made(made(made(x, weight, bias), weight, bias), weight, bias) ** 2).sum())(x)
    assert equal(layers(lambda step: step), plain)
    assert equal(layers(jax.checkpoint), plain)


def test_with_64_bits(rng):
    made = case(rng, "dyt", (4, 32))
    expected = made(*made.values)
    with jax.experimental.enable_x64() if not hasattr(jax, "enable_x64") else jax.enable_x64(True):
        assert equal(made(*made.values), expected)
        assert equal(dyt.jax.dyt(made.values[0], 0.5), dyt.jax.dyt(made.values[0], jnp.float32(0.5)))
        with pytest.raises(TypeError, match="x is float64, expected float32, float16 or bfloat16"):
            dyt.jax.dyt(jnp.ones((2, 3), jnp.float64), 0.5)


@pytest.mark.parametrize("transform", ("jvp", "jit of jvp", "jvp of jit", "jacfwd", "linearize"))
@pytest.mark.parametrize("op", OPS)
def test_forward_mode_is_refused(rng, op, transform):
    made = case(rng, op, (3, 8))
    x, *parameters = made.values
    function = lambda x: made(x, *parameters)
    do = {
        "jvp": lambda: jax.jvp(function, (x,), (x,)),
        "jit of jvp": lambda: jax.jit(lambda x: jax.jvp(function, (x,), (x,)))(x),
        "jvp of jit": lambda: jax.jvp(jax.jit(function), (x,), (x,)),
        "jacfwd": lambda: jax.jacfwd(function)(x),
        "linearize": lambda: jax.linearize(function, x)[1](x),
    }
    with pytest.raises(TypeError, match="forward.mode"):
        do[transform]()


@pytest.mark.parametrize("op", OPS)
def test_second_derivatives_are_refused(rng, op):
    made = case(rng, op, (3, 8))
    x, *parameters = made.values
    gradient = jax.grad(lambda x: made(x, *parameters).sum())
    with pytest.raises(TypeError, match="has no second derivative"):
        jax.grad(lambda x: gradient(x).sum())(x)


X = jnp.ones((4, 6))
W = jnp.ones(6)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: dyt.jax.dyt(jnp.ones((2, 3), int), 0.5),
            TypeError,
            r"dyt\.jax\.dyt: x is int32, expected float32, float16 or bfloat16",
        ),
        (lambda: dyt.jax.dyt(X, jnp.ones(2)), ValueError, r"dyt\.jax\.dyt: alpha has shape \(2,\), expected one value"),
        (lambda: dyt.jax.dyt(X, 1), TypeError, r"dyt\.jax\.dyt: alpha is int32"),
        (lambda: dyt.jax.derf(X, 0.5, jnp.ones((2, 2))), ValueError, r"dyt\.jax\.derf: shift has shape \(2, 2\)"),
        (
            lambda: dyt.jax.dyt(X, 0.5, jnp.ones(5)),
            ValueError,
            r"dyt\.jax\.dyt: weight has shape \(5,\), expected \(6,\)",
        ),
        (
            lambda: dyt.jax.dyt(X, 0.5, W, jnp.ones((1, 6))),
            ValueError,
            r"dyt\.jax\.dyt: bias has shape \(1, 6\), expected \(6,\)",
        ),
        (lambda: dyt.jax.dyt(X, 0.5, W.astype("bfloat16")), TypeError, r"weight is bfloat16, expected float32"),
        (
            lambda: dyt.jax.dyt(X.astype("float16"), 0.5, W.astype("bfloat16")),
            TypeError,
            r"weight is bfloat16, expected float16 or float32",
        ),
        (lambda: dyt.jax.dyt(W, 0.5, channels_last=False), ValueError, r"x has shape \(6,\), expected at least 2 axes"),
        (lambda: dyt.jax.dyt(jnp.ones((4, 0)), 0.5), ValueError, r"x has shape \(4, 0\), and no columns"),
        (lambda: dyt.jax.layer_norm(X, 5), ValueError, r"dyt\.jax\.layer_norm: x has shape \(4, 6\), .* \(5,\)"),
        (lambda: dyt.jax.layer_norm(X, ()), ValueError, r"normalized_shape, \(\)"),
        (lambda: dyt.jax.layer_norm(X, (4, 6), W), ValueError, r"weight has shape \(6,\), expected \(4, 6\)"),
        (lambda: dyt.jax.layer_norm(X, 6, eps=-1.0), ValueError, r"eps is -1\.0"),
        (lambda: dyt.jax.layer_norm(X[:, :1], 1, unbiased=True), ValueError, r"one column has no unbiased deviation"),
        (lambda: dyt.jax.rms_norm(X, 6, W, float("nan")), ValueError, r"eps is nan"),
        (lambda: dyt.jax.rms_norm(X, 6, offset=1.0), TypeError, r"dyt\.jax\.rms_norm: offset is added to weight"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
    with pytest.raises(error, match=message):
        jax.jit(call)()


def _raw(x, result, **changed):
    """A call of the handler itself, past the checks of Python."""
    spec = _native.Spec("layer_norm", 1, 0, 1e-5, False, False, False, False)
    attributes = {**_native._attributes(spec), **changed}
    return jax.ffi.ffi_call("dyt_forward", result)(
        x, **{name: value for name, value in attributes.items() if value is not None}
    )


@pytest.mark.parametrize(
    "result, changed, message",
    [
        (((4, 5), "float32"), {}, r"dyt: y of the shape \[4, 5\] does not hold 24 elements of f32"),
        (((4, 6), "float16"), {}, r"dyt: y of the shape \[4, 6\] does not hold 24 elements of f32"),
        (((4, 6), "float32"), {"op": "softmax"}, r"dyt: an op that is not known"),
        (((4, 6), "float32"), {"op": None}, r"dyt: the attribute op is missing"),
        (((4, 6), "float32"), {"eps": np.float64(1)}, r"dyt: the attribute eps has another type"),
        (((4, 6), "float32"), {"axis": np.int64(2)}, r"dyt: axis 2 after 0 groups in rank 2"),
        (((4, 6), "float32"), {"weight": np.int64(1)}, r"dyt: too few arguments"),
        (((4, 6), "float32"), {"statistics": np.int64(1)}, r"dyt: too few results"),
        (((4, 6), "float32"), {"eps": np.float32(-1)}, r"dyt: .*eps"),
    ],
)
def test_what_the_handler_refuses(result, changed, message):
    shape = jax.ShapeDtypeStruct(*result)
    with pytest.raises(Exception, match=message):
        _raw(X, shape, **changed).block_until_ready()
    # The next call is none the worse for it.
    assert _raw(X, jax.ShapeDtypeStruct((4, 6), "float32")).shape == (4, 6)


def test_the_handler_refuses_other_dtypes():
    with pytest.raises(Exception, match="dyt: x is neither float32, float16 nor bfloat16"):
        _raw(jnp.ones((4, 6), int), jax.ShapeDtypeStruct((4, 6), "float32")).block_until_ready()


@pytest.mark.parametrize("op", NORMS)
def test_the_statistics_are_saved_for_the_backward(rng, op):
    made = case(rng, op, (3, 8))
    text = str(jax.make_jaxpr(jax.grad(lambda x: made(x, *made.values[1:]).sum()))(made.values[0]))
    assert text.count("dyt_forward[") == text.count("dyt_backward[") == text.count("statistics=True") // 2 == 1
