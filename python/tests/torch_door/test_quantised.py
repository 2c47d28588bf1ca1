"""Quantised results against the float64 formula, rounded."""

import numpy as np
import pytest
import torch
from ops import OPS, POINTWISE, draw_arguments, formula, ours, wide

import dyt.torch as D
from dyt.torch import _ops

EPS = 1e-5
LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0, torch.int8: 127.0}


def quantised(op, dtype, x, alpha, shift, weight, bias, **options):
    shape = x.shape[-1:]
    match op:
        case "dyt":
            return D.quantised_dyt(x, dtype, alpha, weight, bias, **options)
        case "derf":
            return D.quantised_derf(x, dtype, alpha, shift, weight, bias, **options)
        case "layer_norm" | "unbiased":
            unbiased = op == "unbiased"
            return D.quantised_layer_norm(x, dtype, shape, weight, bias, EPS, unbiased=unbiased, **options)
        case _:
            offset = 1.0 if op == "offset" else 0.0
            return D.quantised_rms_norm(x, dtype, shape, weight, EPS, offset=offset, **options)


def rounded(values, dtype):
    """What torch makes of float64 values in dtype, saturated, as float64."""
    values = np.clip(values, -LARGEST[dtype], LARGEST[dtype])
    if dtype == torch.int8:
        return np.rint(values)
    # A value in float32 on a tie's side: rounding twice would take some from one side to the other.
    single = values.astype(np.float32)
    odd = single.view(np.uint32)
    single = np.where(single == values, single, (odd | 1).view(np.float32))
    return torch.from_numpy(single).to(dtype).double().numpy()


def check(op, dtype, arguments, y, scale):
    """Each value is that of the formula, or of one that lies within its bound of it. `scale` is as rows × 1."""
    cols = arguments.x.shape[-1]
    # v is float32 before any rounding to a storage type.
    near = formula(op, arguments._replace(x=arguments.x.float())).y()
    result = wide(y.float(), cols)
    low, high = (rounded((near.value + sign * near.bound * 1.01) / scale, dtype) for sign in (-1, 1))
    assert ((result >= low) & (result <= high)).all()
    return near


@pytest.mark.parametrize("target", _ops.QUANTS, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_a_scale_of_each_row(draw, dtype, op, target):
    for shape in ((3, 5), (2, 7, 33), (3, 1100)):
        arguments = draw_arguments(draw, shape, dtype, grad=False)
        y, scales = quantised(op, target, *arguments)
        assert y.dtype == target and y.shape == shape and scales.dtype == torch.float32 and scales.shape == shape[:-1]
        scale = wide(scales).reshape(-1, 1)
        near = check(op, target, arguments, y, scale)
        largest, bound = np.abs(near.value).max(1, keepdims=True), near.bound.max(1, keepdims=True)
        assert (np.abs(scale * LARGEST[target] - largest) <= bound + 2.0**-22 * largest).all()


@pytest.mark.parametrize("target", _ops.QUANTS, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_one_scale(draw, dtype, op, target):
    arguments = draw_arguments(draw, (4, 33), dtype, grad=False)
    scale = torch.tensor([0.7 / LARGEST[target]], device=draw.device)
    y, same = quantised(op, target, *arguments, scale=scale)
    assert same is scale
    check(op, target, arguments, y, wide(scale).reshape(1, 1))
    assert torch.equal(quantised(op, target, *arguments, scale=scale.item())[0].float(), y.float())


@pytest.mark.parametrize("target", _ops.QUANTS, ids=str)
@pytest.mark.parametrize("op", POINTWISE)
def test_a_scale_without_a_look_at_x(draw, op, target):
    arguments = draw_arguments(draw, (4, 33), grad=False)
    scale = D.quant_scale(target, arguments.weight, arguments.bias)
    bound = (wide(arguments.weight).__abs__() + np.abs(wide(arguments.bias))).max()
    assert scale.shape == (1,) and scale.item() == pytest.approx(bound / LARGEST[target], rel=1e-6)
    y, _ = quantised(op, target, *arguments._replace(x=1e3 * arguments.x), scale=scale)
    assert wide(y.float()).__abs__().max() <= LARGEST[target]
    assert D.quant_scale(target, 0 * arguments.weight).item() == 1
    assert D.quant_scale(target).item() == pytest.approx(1 / LARGEST[target])


@pytest.mark.parametrize("op", OPS)
def test_a_residual_and_a_modulation(draw, op):
    arguments = draw_arguments(draw, (3, 5, 16), grad=False)
    residual, scale, shift = draw(3, 5, 16), draw(3, 16), draw(3, 16)
    options = {"modulation": (scale, shift)}
    y, scales, total = quantised(op, torch.int8, *arguments, residual=residual, **options)
    assert torch.equal(total, arguments.x + residual)
    again, others = quantised(op, torch.int8, *arguments._replace(x=total), **options)
    assert torch.equal(y, again) and torch.equal(scales, others)
    plain = ours(op, *arguments._replace(x=total), **options)
    torch.testing.assert_close(y * scales[..., None], plain, rtol=0, atol=0.51 * scales.max().item())


def test_special_values(draw):
    x = torch.tensor([[float("nan"), float("inf"), -float("inf"), 0.0]], device=draw.device)
    alpha, weight = draw(1).abs() + 1, torch.full((4,), 2.0, device=draw.device)
    for target in LARGEST:
        y, scales = D.quantised_dyt(x, target, alpha, weight)
        y = y.float()[0]
        assert scales.item() == pytest.approx(2 / LARGEST[target])
        assert (y[0] == 0 if target == torch.int8 else y[0].isnan()) and (y[1], y[2], y[3]) == (
            LARGEST[target],
            -LARGEST[target],
            0,
        )
    y, scales = D.quantised_rms_norm(torch.zeros(2, 3, device=draw.device), torch.int8, 3)
    assert scales.tolist() == [1, 1] and not y.any()


@pytest.mark.parametrize("op", ["derf", "layer_norm"])
def test_compile_and_opcheck(draw, op):
    torch._dynamo.reset()
    function = lambda *arguments: quantised(op, torch.float8_e4m3fn, *arguments)
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 5):
        arguments = draw_arguments(draw, (rows, 4, 16), grad=False)
        for one, other in zip(compiled(*arguments), function(*arguments), strict=True):
            assert torch.equal(one.float(), other.float())
    x, alpha, shift, weight, bias = arguments
    norm = op not in POINTWISE
    own = (None, None, weight, bias) if norm else (alpha, shift, weight, bias)
    options = (1, _ops.LAYER_NORM if norm else _ops.DERF, 1e-5)
    # No float8: opcheck compares by subtraction.
    for rest in ((None, None, 2), (x, None, 2), (None, alpha, 2)):
        torch.library.opcheck(_ops.quantised, (x, *own, *rest, *options))


def test_vmap(draw):
    x, alpha = draw(3, 5, 16), draw(1)
    for one, other in zip(
        torch.vmap(lambda x: D.quantised_dyt(x, torch.int8, alpha))(x), D.quantised_dyt(x, torch.int8, alpha)
    ):
        assert torch.equal(one, other)


def test_words(draw):
    x, alpha, weight = draw(3, 4), draw(1), draw(4, grad=True)
    with pytest.raises(TypeError, match="dtype is torch.uint8, expected torch.float8_e4m3fn"):
        D.quantised_dyt(x, torch.uint8, alpha)
    with pytest.raises(RuntimeError, match="a quantised result has no gradient"):
        D.quantised_rms_norm(x, torch.int8, 4, weight)
    with pytest.raises(RuntimeError, match=r"scale has shape \[2\], expected one value"):
        D.quantised_dyt(x, torch.int8, alpha, scale=torch.ones(2))
    with torch.no_grad():
        assert D.quantised_rms_norm(x, torch.int8, 4, weight)[0].dtype == torch.int8
