"""The ops in float64, and how far a result may lie from them: the tables of docs/numerics.md.

Arrays are rows × cols, in float64, with the values as they are stored.
"""

import math
from typing import NamedTuple

import numpy as np

ULP = 2.0**-23
#: Digits behind the point, the lowest exponent.
STORAGE = {"float32": (23, -126), "float16": (10, -14), "bfloat16": (7, -126)}

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Near(NamedTuple):
    """A value of the formulas, and how far a result may lie from it."""

    value: np.ndarray
    bound: np.ndarray

    def check(self, name, result):
        result = np.asarray(result, np.float64).reshape(self.value.shape)
        wrong = ~(np.abs(result - self.value) <= self.bound)
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            raise AssertionError(
                f"{name}{list(at)}: {result[at]} is not within {np.broadcast_to(self.bound, wrong.shape)[at]} of {self.value[at]}"
                f" ({wrong.sum()} of {wrong.size})"
            )

    def stored(self, dtype):
        """The same where the result is rounded once more, to dtype."""
        return self if dtype == "float32" else Near(self.value, self.bound + ulp(dtype, self.value))


def ulp(dtype, value):
    """The distance of the values of dtype at a value."""
    digits, lowest = STORAGE[dtype]
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log2(np.abs(value)))
    return np.exp2(np.maximum(exponent, lowest) - digits)


def _y(dtype, y, larger, single, rest):
    """y, where float32 keeps it within `single`, and what is rounded to 16 bits is within `rest`."""
    if dtype == "float32":
        return Near(y, single)
    # One ulp at the larger term; where the sum lies in the next binade, or x̂ is small by cancellation, half an ulp at y and
    # the error of what is rounded.
    return Near(y, np.maximum(ulp(dtype, larger), ulp(dtype, y) / 2 + rest))


class Pointwise:
    """DyT where shift is None, else Derf."""

    def __init__(self, dtype, x, alpha, shift, weight, bias, y_ulps=4):
        self.y_ulps = y_ulps
        self.dtype, self.x, self.alpha, self.shift = dtype, x, alpha, shift
        self.weight = np.ones(x.shape[1]) if weight is None else weight
        self.bias = np.zeros(x.shape[1]) if bias is None else bias
        if shift is None:
            self.u = alpha * x
            self.f, self.slope, self.steep = np.tanh(self.u), 1 / np.cosh(self.u) ** 2, np.abs(self.u)
        else:
            self.u = alpha * x + shift
            self.f, self.slope, self.steep = _erf(self.u), 2 / math.sqrt(math.pi) * np.exp(-(self.u**2)), self.u**2

    def y(self):
        scaled = self.weight * self.f
        larger = np.maximum(np.abs(scaled), np.abs(self.bias))
        return _y(self.dtype, scaled + self.bias, larger, self.y_ulps * ULP * larger, ulp(self.dtype, larger) / 2)

    def gradients(self, dy):
        g = dy * self.weight * self.slope
        # What a sum may lose where the slope or a term of it is subnormal.
        lost = 2.0**-149 * (2 + np.abs(dy * self.weight * np.maximum(1, np.abs(self.x)))).sum()
        # A step of the subnormals for the slope, times what multiplies it, and one for the product.
        subnormal = 2.0**-149 * (1 + np.abs(self.alpha * dy * self.weight))
        dx = Near(self.alpha * g, (6 + 2 * self.steep) * ULP * np.abs(self.alpha * g) + subnormal)
        total = lambda terms: Near(terms.sum(), 1e-6 * ((1 + self.steep) * np.abs(terms)).sum() + lost)
        columns = lambda terms: Near(terms.sum(0), 1e-6 * np.abs(terms).sum(0))
        return {
            "x": dx.stored(self.dtype),
            "alpha": total(g * self.x),
            "shift": total(g),
            "weight": columns(dy * self.f),
            "bias": columns(dy),
        }


class Norm:
    """LayerNorm, its unbiased form, and RMSNorm (`centred=False`)."""

    def __init__(self, dtype, x, weight, bias, eps, centred=True, unbiased=False):
        self.dtype, self.centred = dtype, centred
        cols = x.shape[1]
        self.weight = np.ones(cols) if weight is None else weight
        self.bias = np.zeros(cols) if bias is None else bias
        d = x - x.mean(1, keepdims=True) if centred else x
        square = (d**2).sum(1, keepdims=True)
        if unbiased:
            std = np.sqrt(square / (cols - 1))
            self.rstd = 1 / (std + eps)
            self.divisor = (cols - 1) * std * self.rstd
        else:
            self.rstd = 1 / np.sqrt(square / cols + eps)
            self.divisor = np.full_like(self.rstd, cols)
        self.x_hat = d * self.rstd

    def y(self):
        scaled = self.x_hat * self.weight
        larger = np.maximum(np.abs(scaled), np.abs(self.bias))
        bound = 1e-6 * (1 + np.abs(self.x_hat)) * np.abs(self.weight) + ULP * np.abs(self.bias)
        # RMSNorm subtracts nothing: its x̂ has the relative error of rstd.
        rest = bound if self.centred else np.minimum(bound, 2e-6 * np.abs(scaled) + ULP * np.abs(self.bias))
        return _y(self.dtype, scaled + self.bias, larger, bound, rest)

    def gradients(self, dy):
        h = dy * self.weight
        with np.errstate(divide="ignore", invalid="ignore"):
            along = np.where(self.divisor == 0, 0, (h * self.x_hat).sum(1, keepdims=True) / self.divisor)
        mean = h.mean(1, keepdims=True) if self.centred else 0
        dx = self.rstd * (h - mean - self.x_hat * along)
        bound = 4e-6 * self.rstd * np.abs(h).max(1, keepdims=True, initial=0) * (1 + np.abs(self.x_hat))
        weight = 1e-6 * (np.abs(dy) * (1 + np.abs(self.x_hat))).sum(0)
        return {
            "x": Near(dx, bound).stored(self.dtype),
            "weight": Near((dy * self.x_hat).sum(0), weight),
            "bias": Near(dy.sum(0), 1e-6 * np.abs(dy).sum(0)),
        }
