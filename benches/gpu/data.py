"""Tensors of a cell, and what every contender's outputs are compared with."""

from dataclasses import dataclass

import torch

from cells import ALPHA, SHIFT, parameters
from formula import formula

TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# Norm of the error by norm of the result. A check that the same function is computed; the conformance run is the one
# that bounds errors of ours. Peers round parameters' gradients to 16 bits, and eager rounds each step.
CLOSE = {"f32": 1e-3, "f16": 1e-2, "bf16": 3e-2}
# Elements that the reference takes at a time: eight bytes each, and several intermediates.
CHUNK = 1 << 24


@dataclass
class Tensors:
    """One set of inputs."""

    x: torch.Tensor
    dy: torch.Tensor
    gamma: torch.Tensor
    beta: torch.Tensor
    alpha: torch.Tensor
    shift: torch.Tensor

    def parameters(self, op):
        """Those that the op has, in the order of `results`."""
        return {name: getattr(self, name) for name in parameters(op)}


def tensors(cell, seed):
    """Random values of about unit size, never zeros."""
    source = torch.Generator(device="cuda").manual_seed(seed)
    dtype = TORCH[cell.dtype]

    def normal(*shape):
        return torch.randn(shape, generator=source, device="cuda", dtype=torch.float32).to(dtype)

    def scalar(value):
        return torch.full((1,), value, device="cuda", dtype=dtype)

    shape = (cell.rows, cell.cols)
    return Tensors(
        normal(*shape), normal(*shape), 1 + normal(cell.cols) / 4, normal(cell.cols) / 4, scalar(ALPHA), scalar(SHIFT)
    )


def reference(cell, t):
    """y, or dx and the gradients of the parameters, in f64 and a part of the rows at a time."""
    step = max(1, CHUNK // cell.cols)
    parts, sums = [], {}
    for first in range(0, cell.rows, step):
        x = t.x[first : first + step].double()
        p = {name: value.double() for name, value in t.parameters(cell.op).items()}
        if cell.pass_ == "forward":
            parts.append(formula(cell.op, x, p).float())
            continue
        inputs = [value.requires_grad_() for value in (x, *p.values())]
        y = formula(cell.op, x, p)
        dx, *gradients = torch.autograd.grad(y, inputs, t.dy[first : first + step].double())
        parts.append(dx.float())
        for name, gradient in zip(p, gradients):
            sums[f"d{name}"] = sums.get(f"d{name}", 0) + gradient
    return {("y" if cell.pass_ == "forward" else "dx"): torch.cat(parts), **sums}


def difference(cell, found, expected):
    """None, or in words what is not the same function. NaN is never close."""
    for name, value in expected.items():
        if name not in found:
            return f"no {name}"
        off = (found[name].reshape(value.shape).to(value.dtype) - value).norm() / value.norm()
        # dalpha and dshift cancel over all elements, so that their own size says little about rounding.
        bound = CLOSE[cell.dtype] * (20 if name in ("dalpha", "dshift") else 1)
        if not float(off) <= bound:
            return f"{name} is off by {float(off):.1e}"
    return None
