"""Tensors of a group of cells in numpy, and the float64 results that every contender's are compared with."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import scipy.special

import cpu_grid
from cells import ALPHA, EPS, SHIFT, parameters

NUMPY = {"f32": np.dtype(np.float32), "bf16": np.dtype(ml_dtypes.bfloat16)}
# Elements that the reference takes at a time: eight bytes each, and several intermediates.
CHUNK = 1 << 22
# Every buffer begins at a multiple of this: a cache line, and the widest vector.
ALIGN = 64


@dataclass
class Inputs:
    """One set of inputs, warm and never zeros."""

    x: np.ndarray
    dy: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    alpha: np.ndarray
    shift: np.ndarray

    def parameters(self, op):
        """name -> array, of those that the op has."""
        return {name: getattr(self, name) for name in parameters(op)}


def empty(shape, dtype, fill=1.0):
    """An aligned array whose pages have been touched."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.empty(size + ALIGN, dtype=np.uint8)
    begin = -room.ctypes.data % ALIGN
    array = room[begin : begin + size].view(dtype).reshape(shape)
    array[...] = dtype.type(fill)
    return array


def inputs(cell, seed):
    """Random values of about unit size."""
    random, dtype = np.random.default_rng(seed), NUMPY[cell.dtype]

    def put(values):
        array = empty(values.shape, dtype)
        array[...] = values
        return array

    def normal(*shape):
        return random.standard_normal(shape, dtype=np.float32)

    shape = (cell.rows, cell.cols)
    return Inputs(
        x=put(normal(*shape)), dy=put(normal(*shape)),
        gamma=put(1 + normal(cell.cols) / 4), beta=put(normal(cell.cols) / 4),
        alpha=put(np.full(1, ALPHA)), shift=put(np.full(1, SHIFT)),
    )  # fmt: skip


def reference(op, t):
    """y and every gradient, computed in float64 a part of the rows at a time. y and dx are kept as f32."""
    rows, cols = t.x.shape
    p = {name: value.astype(np.float64) for name, value in t.parameters(op).items()}
    step, out = max(1, CHUNK // cols), {"y": np.empty((rows, cols), np.float32), "dx": np.empty((rows, cols), np.float32)}
    for first in range(0, rows, step):
        part = slice(first, first + step)
        x, dy = t.x[part].astype(np.float64), t.dy[part].astype(np.float64)
        one = _pointwise(op, x, dy, p) if op in ("dyt", "derf") else _norm(op, x, dy, p)
        for name, value in one.items():
            if name in ("y", "dx"):
                out[name][part] = value
            else:
                out[name] = out.get(name, 0) + value
    return out


def _pointwise(op, x, dy, p):
    u = p["alpha"] * x + p.get("shift", 0.0)
    f = np.tanh(u) if op == "dyt" else scipy.special.erf(u)
    slope = 1 / np.cosh(u) ** 2 if op == "dyt" else 2 / np.sqrt(np.pi) * np.exp(-u * u)
    du = dy * p["gamma"] * slope
    out = {"y": p["gamma"] * f + p["beta"], "dx": p["alpha"] * du, "dalpha": np.sum(du * x, keepdims=True).reshape(1)}
    if op == "derf":
        out["dshift"] = np.sum(du, keepdims=True).reshape(1)
    return {**out, "dgamma": (dy * f).sum(axis=0), "dbeta": dy.sum(axis=0)}


def _norm(op, x, dy, p):
    centred = x - x.mean(axis=1, keepdims=True) if op == "layer_norm" else x
    rstd = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS[op])
    xhat, g = centred * rstd, dy * p["gamma"]
    mean = g.mean(axis=1, keepdims=True) if op == "layer_norm" else 0
    dx = rstd * (g - mean - xhat * (g * xhat).mean(axis=1, keepdims=True))
    out = {"y": p["gamma"] * xhat + p.get("beta", 0.0), "dx": dx, "dgamma": (dy * xhat).sum(axis=0)}
    return {**out, "dbeta": dy.sum(axis=0)} if "beta" in p else out


def expected(pass_, results):
    """Those results that a pass gives."""
    if pass_ == "forward":
        return {"y": results["y"]}
    return {name: value for name, value in results.items() if name != "y" or pass_ == "forward+backward"}


def difference(dtype, found, wanted):
    """None, or in words what is not the same function. NaN is never close."""
    for name, value in wanted.items():
        if name not in found:
            return f"no {name}"
        # f32 holds every value of the storage types.
        error = np.asarray(found[name]).reshape(value.shape).astype(np.float32) - value
        off = float(np.linalg.norm(error) / np.linalg.norm(value))
        # dalpha and dshift cancel over all elements, so that their own size says little about rounding.
        if not off <= cpu_grid.CLOSE[dtype] * (20 if name in ("dalpha", "dshift") else 1):
            return f"{name} is off by {off:.1e}"
    return None
