"""The modules of dyt.jax for Flax nnx and for Equinox, beside those that they stand in for."""

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp
import numpy as np
from jax_cases import array, equal

import dyt.jax

WIDTH = 24
F32 = {"rtol": 2e-6, "atol": 2e-6}
BF16 = {"rtol": 2**-7, "atol": 2**-7}


@pytest.fixture
def nnx():
    pytest.importorskip("flax")
    from dyt.jax import nnx

    return nnx


@pytest.fixture
def flax_nnx():
    return pytest.importorskip("flax").nnx


@pytest.fixture
def modules():
    pytest.importorskip("equinox")
    from dyt.jax import equinox

    return equinox


@pytest.fixture
def eqx():
    return pytest.importorskip("equinox")


def state_of(nnx, module):
    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def randomize(rng, nnx, *modules):
    """The same random parameters in each of the modules."""
    values = {name: array(rng, value.shape, value.dtype, 0.5, 1) for name, value in state_of(nnx, modules[0]).items()}
    for module in modules:
        for name, value in values.items():
            getattr(module, name)[...] = value


@pytest.mark.parametrize("dtype", (None, "bfloat16"))
@pytest.mark.parametrize("param", ("float32", "bfloat16"))
@pytest.mark.parametrize("x_dtype", ("float32", "bfloat16"))
@pytest.mark.parametrize("name", ("LayerNorm", "RMSNorm"))
def test_flax_norms(rng, nnx, flax_nnx, name, x_dtype, param, dtype):
    options = {"epsilon": 1e-3, "dtype": dtype and jnp.dtype(dtype), "param_dtype": jnp.dtype(param)}
    ours, theirs = (getattr(place, name)(WIDTH, **options, rngs=flax_nnx.Rngs(0)) for place in (nnx, flax_nnx))
    assert state_of(flax_nnx, ours).keys() == state_of(flax_nnx, theirs).keys()
    randomize(rng, flax_nnx, ours, theirs)
    x = array(rng, (3, 5, WIDTH), x_dtype)
    y, expected = ours(x), theirs(x)
    assert y.dtype == expected.dtype
    # Flax rounds to 16 bits after every step.
    bound = F32 if y.dtype == jnp.float32 and param == "float32" else {"rtol": 2**-5, "atol": 2**-5}
    np.testing.assert_allclose(np.asarray(y, np.float32), np.asarray(expected, np.float32), **bound)


@pytest.mark.parametrize("use_scale", (False, True))
@pytest.mark.parametrize("use_bias", (False, True))
def test_flax_pointwise(rng, nnx, flax_nnx, use_scale, use_bias):
    options = {"use_scale": use_scale, "use_bias": use_bias, "rngs": flax_nnx.Rngs(0)}
    tanh, erf = (
        nnx.DynamicTanh(WIDTH, alpha_init_value=0.8, **options),
        nnx.Derf(WIDTH, shift_init_value=0.1, **options),
    )
    kept = {name for name, there in (("scale", use_scale), ("bias", use_bias)) if there}
    assert state_of(flax_nnx, tanh).keys() == {"alpha", *kept}
    assert state_of(flax_nnx, erf).keys() == {"alpha", "shift", *kept}
    x = array(rng, (3, WIDTH), "float32")
    assert equal(tanh(x), dyt.jax.dyt(x, 0.8))
    assert equal(erf(x), dyt.jax.derf(x, 0.5, 0.1))


@pytest.mark.parametrize("name", ("LayerNorm", "RMSNorm", "DynamicTanh", "Derf"))
def test_flax_trains(rng, nnx, flax_nnx, name):
    """A model with the module in it, through nnx.jit, nnx.grad, split and merge; the loss falls."""

    class Model(flax_nnx.Module):
        def __init__(self, rngs):
            self.first = flax_nnx.Linear(8, WIDTH, rngs=rngs)
            self.norm = getattr(nnx, name)(WIDTH, rngs=rngs)
            self.last = flax_nnx.Linear(WIDTH, 1, rngs=rngs)

        def __call__(self, x):
            return self.last(self.norm(self.first(x)))

    model = Model(flax_nnx.Rngs(0))
    x = array(rng, (32, 8), "float32")
    # What is learned is in x: of noise the loss would fall by as much as chance has it.
    target = x.sum(axis=-1, keepdims=True)
    loss = lambda model: ((model(x) - target) ** 2).mean()

    @flax_nnx.jit
    def step(model):
        value, gradient = flax_nnx.value_and_grad(loss)(model)
        state = flax_nnx.state(model, flax_nnx.Param)
        flax_nnx.update(model, jax.tree.map(lambda p, g: p - 0.05 * g, state, gradient))
        return value, gradient

    first, gradient = step(model)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient["norm"]))
    for _ in range(30):
        last, _ = step(model)
    assert last < 0.9 * first
    again = flax_nnx.merge(*flax_nnx.split(model))
    assert equal(again(x), model(x))


def test_flax_refuses_what_the_kernels_do_not_compute(nnx, flax_nnx):
    x = jnp.ones((2, WIDTH))
    for options in ({"axis_name": "d"}, {"reduction_axes": 0}, {"feature_axes": (0, 1)}):
        with pytest.raises(NotImplementedError, match="use nnx.LayerNorm"):
            nnx.LayerNorm(WIDTH, **options, rngs=flax_nnx.Rngs(0))(x)
    with pytest.raises(NotImplementedError, match="use nnx.RMSNorm"):
        nnx.RMSNorm(WIDTH, rngs=flax_nnx.Rngs(0))(x, mask=x > 0)


def random_like(rng, eqx, *modules):
    """The modules with the same random arrays for parameters."""
    leaves, _ = jax.tree.flatten(eqx.filter(modules[0], eqx.is_array))
    values = [array(rng, leaf.shape, leaf.dtype, 0.5, 1) for leaf in leaves]
    return [jax.tree.unflatten(jax.tree.structure(module), values) for module in modules]


@pytest.mark.parametrize("shape", (WIDTH, (4, 6)))
@pytest.mark.parametrize("x_dtype", ("float32", "bfloat16"))
@pytest.mark.parametrize("param", ("float32", "bfloat16"))
@pytest.mark.parametrize("name", ("LayerNorm", "RMSNorm"))
def test_equinox_norms(rng, modules, eqx, name, param, x_dtype, shape):
    ours, theirs = (getattr(place, name)(shape, eps=1e-3, dtype=jnp.dtype(param)) for place in (modules, eqx.nn))
    ours, theirs = random_like(rng, eqx, ours, theirs)
    x = array(rng, (3, *ours.shape), x_dtype)
    y, expected = jax.vmap(ours)(x), jax.vmap(theirs)(x)
    assert y.dtype == expected.dtype and y.shape == expected.shape
    bound = F32 if x_dtype == "float32" else BF16
    np.testing.assert_allclose(np.asarray(y, np.float32), np.asarray(expected, np.float32), **bound)


@pytest.mark.parametrize("use_weight", (False, True))
@pytest.mark.parametrize("use_bias", (False, True))
def test_equinox_pointwise(rng, modules, use_weight, use_bias):
    options = {"use_weight": use_weight, "use_bias": use_bias}
    tanh, erf = modules.DynamicTanh((4, 6), 0.8, **options), modules.Derf(WIDTH, shift_init_value=0.1, **options)
    x = array(rng, (3, WIDTH), "float32")
    assert equal(jax.vmap(tanh)(x.reshape(3, 4, 6)), dyt.jax.dyt(x, 0.8).reshape(3, 4, 6))
    assert equal(jax.vmap(erf)(x), dyt.jax.derf(x, 0.5, 0.1))
    assert (tanh.weight is not None, tanh.bias is not None) == (use_weight, use_bias)


@pytest.mark.parametrize("name", ("LayerNorm", "RMSNorm", "DynamicTanh", "Derf"))
def test_equinox_trains(rng, modules, eqx, name):
    first, last = jax.random.split(jax.random.key(0))
    layers = [eqx.nn.Linear(8, WIDTH, key=first), getattr(modules, name)(WIDTH), eqx.nn.Linear(WIDTH, 1, key=last)]
    model = eqx.nn.Sequential(layers)
    x = array(rng, (32, 8), "float32")
    # What is learned is in x: of noise the loss would fall by as much as chance has it.
    target = x.sum(axis=-1, keepdims=True)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(model):
        return ((jax.vmap(model)(x) - target) ** 2).mean()

    first, gradient = loss(model)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient[1]))
    for _ in range(30):
        last, gradient = loss(model)
        model = eqx.apply_updates(model, jax.tree.map(lambda leaf: -0.05 * leaf, gradient))
    assert last < 0.9 * first


@pytest.mark.parametrize("name", ("LayerNorm", "RMSNorm", "DynamicTanh", "Derf"))
def test_equinox_shape_and_state(modules, name):
    module = getattr(modules, name)(WIDTH)
    x, state = jnp.ones(WIDTH), object()
    y, given = module(x, state)
    assert given is state and equal(y, module(x, key=jax.random.key(0)))
    with pytest.raises(ValueError, match=rf"dyt\.jax\.equinox\.{name}: x has shape \(2, 24\), expected \(24,\)"):
        module(jnp.ones((2, WIDTH)))


def test_equinox_vmap_is_one_call(modules):
    module = modules.LayerNorm(WIDTH)
    text = str(jax.make_jaxpr(jax.vmap(jax.vmap(module)))(jnp.ones((2, 3, WIDTH))))
    assert text.count("dyt_forward[") == 1 and "f32[2,3,24] = dyt_forward[" in text


@pytest.mark.parametrize("name", ("DynamicTanh", "Derf", "LayerNorm", "RMSNorm"))
def test_a_residual_and_a_modulation(rng, nnx, flax_nnx, modules, name):
    x, residual = array(rng, (3, 5, WIDTH), "float32"), array(rng, (3, 5, WIDTH), "float32")
    scale, shift = array(rng, (3, WIDTH), "float32"), array(rng, (3, WIDTH), "float32")
    module = getattr(nnx, name)(WIDTH, rngs=flax_nnx.Rngs(0))
    total = x + residual
    assert equal(module(x, residual=residual), (module(total), total))
    y = module.modulate(x, scale, shift)
    np.testing.assert_allclose(y, module(x) * (1 + scale[:, None]) + shift[:, None], rtol=1e-5, atol=1e-5)
    assert equal(module.modulate(x, scale, shift, residual), (module.modulate(total, scale, shift), total))
    module = getattr(modules, name)(WIDTH)
    each = jax.vmap(jax.vmap(lambda x, residual: module(x, residual=residual)))(x, residual)
    assert equal(each, (jax.vmap(jax.vmap(module))(total), total))


def test_qk_norm(rng, nnx, flax_nnx):
    qkv, pair = array(rng, (2, 5, 8 * 6), "float32"), [nnx.RMSNorm(6, rngs=flax_nnx.Rngs(0)) for _ in range(2)]
    q, k, v = dyt.jax.qk_norm(qkv, *pair, 4, 2)
    parts = qkv.reshape(2, 5, 8, 6)
    assert equal((q, k, v), (pair[0](parts[:, :, :4]), pair[1](parts[:, :, 4:6]), parts[:, :, 6:]))
    gradient = jax.grad(lambda qkv: sum((part**2).sum() for part in dyt.jax.qk_norm(qkv, *pair, 4, 2)))(qkv)
    np.testing.assert_allclose(gradient.reshape(parts.shape)[:, :, 6:], 2 * v, rtol=1e-6)
    with pytest.raises(ValueError, match=r"qkv has shape \(2, 5, 48\)"):
        dyt.jax.qk_norm(qkv, *pair, 5)
