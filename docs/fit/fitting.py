"""Weighted minimax fits whose coefficients are f32."""

import mpmath
import numpy
from mpmath import mpf

mpmath.mp.dps = 50


def f32(value):
    """`value` rounded to f32, as a Python float."""
    return float(numpy.float32(float(value)))


def ulp(value, significand=24):
    """The unit in the last place of a float with so many bits of significand (24: f32, 11: f16)."""
    return 2.0 ** (numpy.floor(numpy.log2(abs(float(value)))) - (significand - 1))


def nodes(low, high, count):
    """Chebyshev nodes with both ends."""
    k = numpy.arange(count)
    return (low + high) / 2 - (high - low) / 2 * numpy.cos(numpy.pi * k / (count - 1))


def lawson(basis, target, weight, rounds):
    """Coefficients c that nearly minimise max |weight * (basis @ c - target)| (Lawson's reweighting)."""
    lam = numpy.ones(len(target))
    best, best_error = None, numpy.inf
    for _ in range(rounds):
        w = numpy.sqrt(lam) * weight
        c, *_ = numpy.linalg.lstsq(basis * w[:, None], target * w, rcond=None)
        e = numpy.abs(weight * (basis @ c - target))
        if e.max() < best_error:
            best, best_error = c, e.max()
        lam = lam * (e / e.max() + 1e-6)
        lam /= lam.max()
    return best


def polynomial(function, low, high, degree, weight, fixed=None, count=300, rounds=400):
    """f32 coefficients, lowest first, of a polynomial for function(x) on [low, high], and the greatest weighted error.

    The top coefficient is rounded and the rest fitted again, down to the lowest, so that the lower ones repair what
    the rounding of the upper ones spoiled. `fixed` gives coefficients known beforehand, {power: value}.
    """
    x = nodes(low, high, count)
    values = numpy.array([float(function(mpf(float(v)))) for v in x])
    w = numpy.array([float(weight(mpf(float(v)))) for v in x])
    done = dict(fixed or {})
    scale = max(abs(low), abs(high))
    for top in range(degree, -1, -1):
        if top in done:
            continue
        free = [k for k in range(degree + 1) if k not in done]
        rest = values - sum(c * x**k for k, c in done.items())
        c = lawson(numpy.stack([(x / scale) ** k for k in free], axis=1), rest, w, rounds)
        done[top] = f32(c[free.index(top)] / scale**top)
    got = sum(done[k] * x**k for k in range(degree + 1))
    return [done[k] for k in range(degree + 1)], numpy.abs(w * (got - values)).max()
