"""dyt.numpy against the formulas."""

import numpy as np
import pytest
from formulas import Norm, Pointwise

import dyt

ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
SHAPES = [(1, 1), (3, 5), (2, 7, 33), (130, 1025), (0, 8), (9,)]
wide = lambda array: None if array is None else np.asarray(array).astype(np.float64)


def draw(rng, dtype, shape, scale=2.0, about=0.0):
    return (about + scale * rng.standard_normal(shape)).astype(dtype)


@pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


def rows(array, cols):
    return wide(array).reshape(-1, cols)


@pytest.mark.parametrize("param", ["own", "f32", "none"])
@pytest.mark.parametrize("op", ["dyt", "derf"])
def test_pointwise(rng, dtype, shape, op, param):
    cols = shape[-1]
    x, dy = draw(rng, dtype, shape), draw(rng, dtype, shape)
    alpha, shift = np.float32(rng.uniform(0.2, 2)), np.float32(rng.uniform(-1, 1))
    weight, bias = (
        (None, None)
        if param == "none"
        else (draw(rng, dtype if param == "own" else np.float32, cols, 1.0, about) for about in (1.0, 0.0))
    )
    scalars = (alpha,) if op == "dyt" else (alpha, shift)
    y = getattr(dyt.numpy, op)(x, *scalars, weight, bias)
    assert y.shape == x.shape and y.dtype == dtype
    expected = Pointwise(
        dtype.name, rows(x, cols), float(alpha), None if op == "dyt" else float(shift), wide(weight), wide(bias)
    )
    expected.y().check("y", rows(y, cols))
    grads = getattr(dyt.numpy, f"{op}_backward")(dy, x, *scalars, weight)
    truth = expected.gradients(rows(dy, cols))
    truth["x"].check("dx", rows(grads.dx, cols))
    truth["alpha"].check("dalpha", grads.dalpha)
    truth["bias"].check("dbias", grads.dbias)
    if op == "derf":
        truth["shift"].check("dshift", grads.dshift)
    if weight is None:
        assert grads.dweight is None
    else:
        truth["weight"].check("dweight", grads.dweight)


@pytest.mark.parametrize("form", ["layer_norm", "unbiased", "rms_norm", "offset"])
def test_norms(rng, dtype, form):
    shape, normalized = (5, 3, 41), (3, 41)
    x, dy = draw(rng, dtype, shape, 2.0, 0.5), draw(rng, dtype, shape)
    weight = draw(rng, np.float32, normalized, 1.0, 1.0)
    bias = draw(rng, np.float32, normalized) if form in ("layer_norm", "unbiased") else None
    flat = lambda array: None if array is None else wide(array).reshape(-1)
    if bias is not None:
        options = {"unbiased": form == "unbiased"}
        y = dyt.numpy.layer_norm(x, normalized, weight, bias, 1e-5, **options)
        grads = dyt.numpy.layer_norm_backward(dy, x, normalized, weight, 1e-5, **options)
        expected = Norm(dtype.name, rows(x, 123), flat(weight), flat(bias), 1e-5, unbiased=form == "unbiased")
    else:
        offset = 1.0 if form == "offset" else 0.0
        y = dyt.numpy.rms_norm(x, normalized, weight, 1e-6, offset=offset)
        grads = dyt.numpy.rms_norm_backward(dy, x, normalized, weight, 1e-6, offset=offset)
        expected = Norm(dtype.name, rows(x, 123), flat(weight + np.float32(offset)), None, 1e-6, centred=False)
    expected.y().check("y", rows(y, 123))
    truth = expected.gradients(rows(dy, 123))
    truth["x"].check("dx", rows(grads.dx, 123))
    truth["weight"].check("dweight", flat(grads.dweight))
    truth["bias"].check("dbias", flat(grads.dbias))


def test_channels_first(rng, dtype):
    x, weight, bias = draw(rng, dtype, (3, 6, 5, 7)), draw(rng, dtype, 6), draw(rng, dtype, 6)
    y = dyt.numpy.dyt(x, 0.7, weight, bias, channels_last=False)
    last = lambda array: np.moveaxis(array, 1, -1).reshape(-1, 6)
    expected = Pointwise(dtype.name, wide(last(x)), float(np.float32(0.7)), None, wide(weight), wide(bias))
    expected.y().check("y", wide(last(y)))
    grads = dyt.numpy.dyt_backward(y, x, 0.7, weight, channels_last=False)
    truth = expected.gradients(wide(last(y)))
    truth["x"].check("dx", wide(last(grads.dx)))
    truth["weight"].check("dweight", grads.dweight)


def test_buffers_that_are_no_arrays(rng):
    x = draw(rng, np.float32, (4, 6))
    assert np.array_equal(dyt.numpy.dyt(memoryview(x), 0.5), dyt.numpy.dyt(x, 0.5))
    assert np.array_equal(dyt.numpy.dyt(x[:, ::2], 0.5), dyt.numpy.dyt(x, 0.5)[:, ::2])
    assert np.array_equal(dyt.numpy.dyt(x.astype(">f4"), 0.5), dyt.numpy.dyt(x, 0.5))
    misaligned = np.frombuffer(b"\0" + x.tobytes(), np.float32, 24, 1).reshape(4, 6)
    assert np.array_equal(dyt.numpy.dyt(misaligned, 0.5), dyt.numpy.dyt(x, 0.5))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda x: dyt.numpy.dyt(x.astype(np.float64), 0.5), TypeError, "x is float64, expected float32"),
        (lambda x: dyt.numpy.dyt(x, [0.5, 1]), ValueError, "alpha has shape"),
        (lambda x: dyt.numpy.dyt(x, 0.5, x[0, :3]), ValueError, r"weight has shape \(3,\), expected \(6,\)"),
        (lambda x: dyt.numpy.dyt(x, 0.5, x[0].astype(np.float16)), TypeError, "weight is float16, expected float32"),
        (lambda x: dyt.numpy.dyt_backward(x[:2], x, 0.5), ValueError, "dy is float32 of shape"),
        (lambda x: dyt.numpy.dyt(x[0], 0.5, channels_last=False), ValueError, "at least 2 axes"),
        (lambda x: dyt.numpy.layer_norm(x, 5), ValueError, "normalized_shape"),
        (lambda x: dyt.numpy.layer_norm(x, 6, eps=-1.0), RuntimeError, "eps is -1"),
        (lambda x: dyt.numpy.layer_norm(x[:, :1], 1, unbiased=True), RuntimeError, "at least 2 columns"),
        (lambda x: dyt.numpy.rms_norm(x, 6, offset=1.0), TypeError, "offset is added to weight"),
        (lambda x: dyt.numpy.dyt(x[:, :0], 0.5), RuntimeError, "cols is 0"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(np.ones((4, 6), np.float32))


OPS = ["dyt", "derf", "layer_norm", "rms_norm"]
QUANTS = {np.dtype(ml_dtypes.float8_e4m3fn): 448, np.dtype(ml_dtypes.float8_e5m2): 57344, np.dtype(np.int8): 127}


def arguments(op, cols):
    """What stands in front of weight."""
    return {"dyt": (0.7,), "derf": (0.7, 0.2)}.get(op, (cols,))


def named(op, prefix="", suffix=""):
    return getattr(dyt.numpy, prefix + op + suffix)


@pytest.mark.parametrize("op", OPS)
def test_residual(rng, dtype, shape, op):
    x, residual, dy, dsum = (draw(rng, dtype, shape) for _ in range(4))
    own, weight = arguments(op, shape[-1]), draw(rng, np.float32, shape[-1:])
    total = (x.astype(np.float32) + residual.astype(np.float32)).astype(dtype)
    y, same = named(op, "add_")(x, residual, *own, weight)
    assert np.array_equal(same, total) and np.array_equal(y, named(op)(total, *own, weight))
    plain = named(op, suffix="_backward")(dy, total, *own, weight)
    grads = named(op, suffix="_backward")(dy, total, *own, weight, dsum=dsum)
    assert all(map(np.array_equal, grads[1:], plain[1:]))
    value = wide(plain.dx) + wide(dsum)
    # dx was rounded to dtype once, and here once more.
    steps = np.finfo(np.float32).eps if dtype == np.float32 else float(ml_dtypes.finfo(dtype).eps)
    assert (np.abs(wide(grads.dx) - value) <= steps * (np.abs(wide(plain.dx)) + np.abs(value)) + 1e-7).all()


@pytest.mark.parametrize("op", OPS)
def test_parameters_of_each_sample(rng, dtype, op):
    x, dy = draw(rng, dtype, (3, 5, 33)), draw(rng, dtype, (3, 5, 33))
    weight, bias = (draw(rng, np.float32, (3, 33)) for _ in range(2))
    own, biases = arguments(op, 33), () if op == "rms_norm" else (bias,)
    y, grads = named(op)(x, *own, weight, *biases), named(op, suffix="_backward")(dy, x, *own, weight)
    assert grads.dweight.shape == grads.dbias.shape == (3, 33)
    for at in range(3):
        assert np.array_equal(named(op)(x[at], *own, weight[at], *(bias[at] for bias in biases)), y[at])
        alone = named(op, suffix="_backward")(dy[at], x[at], *own, weight[at])
        for name in ("dx", "dweight", "dbias"):
            assert np.array_equal(getattr(alone, name), getattr(grads, name)[at])
    empty = named(op, suffix="_backward")(dy[:, :0], x[:, :0], *own, weight)
    assert not empty.dweight.any() and empty.dweight.shape == (3, 33)
    with pytest.raises(ValueError, match=r"weight has shape \(2, 33\), expected \(3, 33\)"):
        named(op)(x, *own, weight[:2])


@pytest.mark.parametrize("target", QUANTS, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_quantised(rng, dtype, op, target):
    x, residual = draw(rng, dtype, (2, 7, 33)), draw(rng, dtype, (2, 7, 33))
    own, weight = arguments(op, 33), draw(rng, np.float32, 33)
    v = wide(named(op)(x.astype(np.float32), *own, weight))
    y, scales = named(op, "quantised_")(x, target, *own, weight)
    assert y.dtype == target and scales.shape == (2, 7)
    largest = np.abs(v).max(-1)
    np.testing.assert_allclose(scales * QUANTS[target], largest, rtol=1e-5)
    # Half a step: of the integers, of the values at v, or of the subnormals.
    half = {"int8": 0.51, "float8_e4m3fn": 2.0**-9, "float8_e5m2": 2.0**-16}[target.name]
    relative = {"int8": 0, "float8_e4m3fn": 2.0**-4, "float8_e5m2": 2.0**-3}[target.name]
    assert (
        np.abs(wide(y) * scales[..., None] - v) <= scales[..., None] * half * 1.01 + 1.01 * relative * np.abs(v)
    ).all()
    one, same = named(op, "quantised_")(x[0, :1], target, *own, weight, scale=scales[0, 0])
    assert np.array_equal(wide(one), wide(y[0, :1])) and same.item() == scales[0, 0]
    y, scales, total = named(op, "quantised_")(x, target, *own, weight, residual=residual)
    again, others = named(op, "quantised_")(total, target, *own, weight)
    assert np.array_equal(wide(y), wide(again)) and np.array_equal(scales, others)
    with pytest.raises(TypeError, match="dtype is uint8, expected float8_e4m3fn, float8_e5m2 or int8"):
        named(op, "quantised_")(x, np.uint8, *own)
