"""Each op as a function of the same arguments, ours and composed of torch's own, and its formula."""

import os
from typing import NamedTuple

import numpy as np
import torch
from formulas import Norm, Pointwise
from torch import Tensor

import dyt.torch as D

EPS = 1e-5
#: Whether a build with the feature `simt` runs CUDA's kernels on the host.
SIMT = "DYT_TEST_SIMT" in os.environ
OPS = ["dyt", "derf", "layer_norm", "unbiased", "rms_norm", "offset"]
POINTWISE = OPS[:2]


class Arguments(NamedTuple):
    x: Tensor
    alpha: Tensor
    shift: Tensor
    weight: Tensor | None
    bias: Tensor | None


def draw_arguments(draw, shape, dtype=torch.float32, param=None, affine=True, grad=True, cols=None):
    """Arguments of every op; an op leaves alone those that it does not have."""
    param, cols = param or dtype, shape[-1:] if cols is None else cols
    return Arguments(
        draw(*shape, dtype=dtype, scale=2.0, about=0.25, grad=grad),
        draw(1, scale=0.3, about=0.8, grad=grad),
        draw(1, scale=0.5, grad=grad),
        draw(*cols, dtype=param, about=1.0, grad=grad) if affine else None,
        draw(*cols, dtype=param, grad=grad) if affine else None,
    )


def names(op, arguments):
    """The arguments that the op has and that are given."""
    own = {
        "dyt": "x alpha weight bias",
        "derf": "x alpha shift weight bias",
        "rms_norm": "x weight",
        "offset": "x weight",
    }
    return [name for name in own.get(op, "x weight bias").split() if getattr(arguments, name) is not None]


def ours(op, x, alpha, shift, weight, bias, residual=None, **options):
    """y, or (y, sum) with a residual."""
    add, xs = ("", (x,)) if residual is None else ("add_", (x, residual))
    shape = x.shape[-1:] if weight is None else weight.shape
    match op:
        case "dyt":
            return getattr(D, add + "dyt")(*xs, alpha, weight, bias, **options)
        case "derf":
            return getattr(D, add + "derf")(*xs, alpha, shift, weight, bias, **options)
        case "layer_norm" | "unbiased":
            unbiased = op == "unbiased"
            return getattr(D, add + "layer_norm")(*xs, shape, weight, bias, EPS, unbiased=unbiased, **options)
        case _:
            offset = 1.0 if op == "offset" else 0.0
            return getattr(D, add + "rms_norm")(*xs, shape, weight, EPS, offset=offset, **options)


def composed(op, x, alpha, shift, weight, bias):
    """The same of torch's own ops."""
    match op:
        case "dyt":
            y = torch.tanh(alpha * x)
        case "derf":
            y = torch.erf(alpha * x + shift)
        case "layer_norm":
            y = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + EPS)
        case "unbiased":
            y = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + EPS)
        case _:
            y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + EPS)
            bias = None
    if weight is not None:
        y = y * (weight + 1.0 if op == "offset" else weight)
    return y if bias is None else y + bias


def wide(tensor, cols=None):
    """The values in float64, as rows of so many columns."""
    array = tensor.detach().to("cpu", torch.float64).numpy()
    return array if cols is None else array.reshape(-1, cols)


def formula(op, arguments, x=None):
    """The formula of these arguments; x is theirs, as rows × columns."""
    cols = arguments.x.shape[-1] if arguments.weight is None else arguments.weight.numel()
    x = wide(arguments.x, cols) if x is None else x
    dtype = str(arguments.x.dtype).removeprefix("torch.")
    weight, bias = (None if value is None else wide(value).reshape(-1) for value in arguments[3:])
    if op in POINTWISE:
        shift = arguments.shift.item() if op == "derf" else None
        y_ulps = 5 if arguments.x.is_cuda or SIMT else 4
        return Pointwise(dtype, x, arguments.alpha.item(), shift, weight, bias, y_ulps)
    if op in ("layer_norm", "unbiased"):
        return Norm(dtype, x, weight, bias, EPS, unbiased=op == "unbiased")
    if op == "offset":
        # The sum is rounded to float32.
        weight = None if weight is None else (weight.astype(np.float32) + np.float32(1)).astype(np.float64)
    return Norm(dtype, x, weight, None, EPS, centred=False)


def check(op, arguments, y, gradients, dy, rows=wide):
    """Compares y and the gradients of `names(op, arguments)` with the formula."""
    cols = arguments.x.shape[-1] if arguments.weight is None else arguments.weight.numel()
    truth = formula(op, arguments, rows(arguments.x, cols))
    truth.y().check("y", rows(y, cols))
    expected = truth.gradients(rows(dy, cols))
    for name, gradient in zip(names(op, arguments), gradients, strict=True):
        argument = getattr(arguments, name)
        assert gradient.shape == argument.shape and gradient.dtype == argument.dtype, name
        near = expected[name]
        if name != "x":
            near = near.stored(str(argument.dtype).removeprefix("torch."))
        near.check(f"d{name}", rows(gradient, cols) if name == "x" else wide(gradient).reshape(near.value.shape))
