"""What dyt.jax does beyond y = op(x): a residual, AdaLN's modulation, a quantised result."""

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp
import numpy as np
from formulas import Near, ulp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_cases import OPS, array, case, equal, rows

import dyt.jax

LARGEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0, "int8": 127.0}


def form(made, prefix, *first, **options):
    """The function of that prefix with the arguments of a case; those named in `first` are behind x."""
    function = getattr(dyt.jax, prefix + made.function.func.__name__)

    def call(*values):
        arguments = dict(zip((*first, *made.arguments), values, strict=True))
        return function(**arguments, **made.function.keywords, **options)

    return call


@pytest.mark.parametrize("dtype", ("float32", "float16", "bfloat16"))
@pytest.mark.parametrize("op", OPS)
def test_residual(rng, op, dtype):
    """y, the sum and the gradients of the parameters have the bits of an addition and the op."""
    for shape in ((1, 2), (2, 7, 33), (0, 8)):
        made = case(rng, op, shape, dtype, "float32")
        residual, dy, dsum = (array(rng, shape, dtype) for _ in range(3))

        def apart(total, *parameters):
            y, pull = jax.vjp(made, total, *parameters)
            return y, pull(dy)

        x, *parameters = made.values
        total = x + residual
        expected, (dx, *gradients) = jax.jit(apart)(total, *parameters)
        (y, same), pull = jax.vjp(jax.jit(form(made, "add_", "residual")), residual, *made.values)
        dresidual, dx_sum, *others = pull((dy, dsum))
        assert equal((y, same), (expected, total)) and equal(others, gradients) and equal(dresidual, dx_sum)
        assert equal(jax.jit(form(made, "add_", "residual"))(residual, *made.values), (expected, total))
        near = made.formula(rows(total)).gradients(rows(dy))["x"]
        value = near.value + rows(dsum)
        Near(value, near.bound + ulp(dtype, value)).check("dx", rows(dx_sum))


def composed(made, x, scale, shift):
    """y · (1 + scale) + shift in steps, with float32 throughout."""
    y = made(x.astype("float32"), *made.values[1:])
    across = lambda value: value.astype("float32").reshape(*value.shape[:-1], *[1] * (x.ndim - value.ndim), -1)
    return y * (1 + across(scale)) + across(shift)


def near(ours, theirs, bound=1e-5):
    """Beside the largest of all, which for dalpha and dshift is not one of their own: they may come out near zero."""
    largest = max(float(jnp.abs(value).max()) for value in theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        scale = largest if other.shape == (1,) else float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=bound * max(scale, 1e-3))


@pytest.mark.parametrize("weight", (False, True))
@pytest.mark.parametrize("op", OPS)
def test_modulation(rng, op, weight):
    for shape, lead in (((3, 5, 33), 1), ((2, 3, 4, 16), 2)):
        made = case(rng, op, shape, weight=weight, bias=weight)
        scale, shift = (array(rng, (*shape[:lead], shape[-1]), "float32", 0.5) for _ in range(2))
        dy = array(rng, shape, "float32")

        def ours(scale, shift, *values):
            return form(made, "", modulation=(scale, shift))(*values)

        def theirs(scale, shift, x, *parameters):
            return composed(case_with(made, parameters), x, scale, shift)

        results = []
        for function in (ours, theirs):
            y, pull = jax.vjp(jax.jit(function), scale, shift, *made.values)
            results.append((y, *pull(dy)))
        near(*results)
        # (batch, 1, dim) is (batch, dim).
        between = tuple(value.reshape(*shape[:lead], 1, -1) for value in (scale, shift))
        if lead == 1:
            assert equal(form(made, "", modulation=between)(*made.values), ours(scale, shift, *made.values))


def case_with(made, parameters):
    names = list(made.arguments)[1:]
    return type(made)(made.function, {"x": None, **dict(zip(names, parameters, strict=True))}, made.dtype)


@pytest.mark.parametrize("op", OPS)
def test_vmap(rng, op):
    """A batch of x, the residual and the conditions is a larger call, and so are its gradients."""
    made = case(rng, op, (4, 3, 16))
    x, *parameters = made.values
    residual, (scale, shift) = array(rng, x.shape, "float32"), (array(rng, (4, 16), "float32") for _ in range(2))

    def loss(x, residual, scale, shift):
        y, total = form(made, "add_", "residual", modulation=(scale, shift))(residual, x, *parameters)
        return (y**2).sum() + jnp.sin(total).sum()

    whole = jax.grad(loss, (0, 1, 2, 3))(x, residual, scale, shift)
    # A sample has no axis in front: its scale is one of all rows.
    each = jax.vmap(jax.grad(loss, (0, 1, 2, 3)))(x[:, None], residual[:, None], scale[:, None], shift[:, None])
    near([gradient.reshape(other.shape) for gradient, other in zip(each, whole)], whole)

    def plain(x, residual):
        y, total = form(made, "add_", "residual")(residual, x, *parameters)
        return (y**2).sum() + jnp.sin(total).sum()

    for dims in ((0, 0), (1, 1), (0, None)):
        values = [value if dim is not None else value[0] for value, dim in zip((x, residual), dims)]
        each = jax.vmap(jax.value_and_grad(plain, (0, 1)), dims)(*values)
        at = lambda value, dim, number: value if dim is None else jnp.take(value, number, dim)
        for number in range(x.shape[dims[0]]):
            one = jax.value_and_grad(plain, (0, 1))(*(at(value, dim, number) for value, dim in zip(values, dims)))
            near(jax.tree.leaves(jax.tree.map(lambda leaf: leaf[number], each)), jax.tree.leaves(one))


@pytest.mark.parametrize("axes", (("a", None, None), (None, "a", None), (None, None, "a")))
@pytest.mark.parametrize("op", ("derf", "layer_norm"))
def test_on_several_devices(rng, op, axes):
    made = case(rng, op, (4, 8, 16))
    x, *parameters = made.values
    residual, (scale, shift) = array(rng, x.shape, "float32"), (array(rng, (4, 16), "float32") for _ in range(2))

    def loss(x, residual, scale, shift):
        y, total = form(made, "add_", "residual", modulation=(scale, shift))(residual, x, *parameters)
        return (y**2).sum() + jnp.sin(total).sum()

    gradient = jax.jit(jax.grad(loss, (0, 1, 2, 3)))
    expected = gradient(x, residual, scale, shift)
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("a",)), P(*axes))
    near(gradient(*(jax.device_put(value, sharding) for value in (x, residual)), scale, shift), expected)


def rounded(values, target):
    """float64 values in that dtype, saturated."""
    values = np.clip(values, -LARGEST[target], LARGEST[target])
    return np.rint(values) if target == "int8" else values.astype(jnp.dtype(target)).astype(np.float64)


@pytest.mark.parametrize("target", LARGEST)
@pytest.mark.parametrize("op", OPS)
def test_quantised(rng, op, target):
    made = case(rng, op, (2, 7, 33))
    truth = made.formula(rows(made.arguments["x"])).y()
    for scale in (None, 0.7 / LARGEST[target]):
        y, scales = jax.jit(form(made, "quantised_", dtype=target, scale=scale))(*made.values)
        assert y.dtype == target and y.shape == (2, 7, 33)
        assert scales.shape == ((2, 7) if scale is None else (1,)) and scales.dtype == "float32"
        scales = np.asarray(scales, np.float64).reshape(-1, 1)
        low, high = (rounded((truth.value + sign * truth.bound * 1.01) / scales, target) for sign in (-1, 1))
        result = rows(np.asarray(y).astype(np.float64))
        assert ((low <= result) & (result <= high)).all()
        if scale is None:
            largest = np.abs(truth.value).max(1, keepdims=True)
            np.testing.assert_allclose(scales * LARGEST[target], largest, rtol=1e-5)


def test_quantised_of_a_residual_and_under_vmap(rng):
    made = case(rng, "derf", (3, 5, 16))
    residual, scale = array(rng, (3, 5, 16), "float32"), jnp.array([0.02, 0.01, 0.03])
    y, scales, total = form(made, "quantised_", dtype="int8", residual=residual)(*made.values)
    x, *parameters = made.values
    assert equal(total, x + residual)
    assert equal((y, scales), form(made, "quantised_", dtype="int8")(total, *parameters))
    call = lambda x, scale: form(made, "quantised_", dtype="int8", scale=scale)(x, *parameters)[0]
    assert equal(jax.vmap(call)(x, scale), jnp.stack([call(x[at], scale[at]) for at in range(3)]))


X = jnp.ones((4, 3, 6))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: dyt.jax.add_dyt(X, X[:3], 0.5),
            ValueError,
            r"dyt\.jax\.dyt: residual is float32 of shape \(3, 3, 6\)",
        ),
        (lambda: dyt.jax.add_rms_norm(X, X.astype("float16"), 6), ValueError, "residual is float16 of shape"),
        (
            lambda: dyt.jax.layer_norm(X, 6, modulation=(jnp.ones((3, 6)), jnp.ones((4, 6)))),
            ValueError,
            r"scale has shape \(3, 6\), expected \(4, 6\)",
        ),
        (
            lambda: dyt.jax.dyt(X, 0.5, modulation=(jnp.ones((4, 6)), jnp.ones((4, 3, 6)))),
            ValueError,
            r"shift has shape \(4, 3, 6\), expected scale's \(4, 6\)",
        ),
        (lambda: dyt.jax.quantised_dyt(X, "uint8", 0.5), TypeError, "dtype is uint8, expected float8_e4m3fn"),
        (lambda: dyt.jax.quantised_dyt(X, "int8", 0.5, scale=jnp.ones(2)), ValueError, r"scale has shape \(2,\)"),
        (
            lambda: jax.grad(lambda x: dyt.jax.quantised_dyt(x, "int8", 0.5)[1].sum())(X),
            TypeError,
            "a quantised result has no gradient",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
