"""Weighted minimax fits whose coefficients are f32, one after the other."""

import mpmath
import numpy

mpmath.mp.dps = 50


def f32(value):
    """`value` rounded to f32, as a Python float."""
    return float(numpy.float32(float(value)))


def nodes(low, high, count):
    """Chebyshev nodes with both ends."""
    k = numpy.arange(count)
    return (low + high) / 2 - (high - low) / 2 * numpy.cos(numpy.pi * k / (count - 1))


def lawson(basis, target, weight, rounds=400):
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
    return best, best_error


def polynomial(function, low, high, degree, weight, fixed=None, count=300, step=1, rounds=400):
    """f32 coefficients, lowest first, of a polynomial in x**step for function(x) on [low, high].

    The top coefficient is rounded and the rest fitted again, down to the lowest, so that the lower ones repair what
    the rounding of the upper ones spoiled. `fixed` gives coefficients known beforehand, {power: value}.
    """
    x = nodes(low, high, count)
    values = numpy.array([float(function(mpmath.mpf(float(v)))) for v in x])
    w = numpy.array([float(weight(mpmath.mpf(float(v)))) for v in x])
    done = dict(fixed or {})
    scale = max(abs(low), abs(high)) ** step
    z = x ** step / scale
    error = None
    for top in range(degree, -1, -1):
        if top in done:
            continue
        free = [k for k in range(degree + 1) if k not in done]
        rest = values - sum(c * x ** (step * k) for k, c in done.items())
        c, error = lawson(numpy.stack([z ** k for k in free], axis=1), rest, w, rounds)
        done[top] = f32(c[free.index(top)] / scale ** top)
    got = sum(done[k] * x ** (step * k) for k in range(degree + 1))
    return [done[k] for k in range(degree + 1)], numpy.abs(w * (got - values)).max()


def rust(name, coefficients):
    """Prints a Rust array that parses to these very f32 values."""
    texts = [literal(c) for c in coefficients]
    print(f"pub(super) const {name}: [f32; {len(texts)}] = [")
    for start in range(0, len(texts), 8):
        print("    " + ", ".join(texts[start : start + 8]) + ",")
    print("];")


def rust_table(name, rows):
    """Prints a Rust array of arrays."""
    print(f"pub(super) const {name}: [[f32; {len(rows[0])}]; {len(rows)}] = [")
    for row in rows:
        texts = [literal(c) for c in row]
        half = len(texts) // 2
        print("    [" + ", ".join(texts[:half]) + ",\n     " + ", ".join(texts[half:]) + "],")
    print("];")


def literal(value):
    """The shortest decimal that rounds to this f32."""
    if value != 0 and abs(value) < 1e-3:
        return numpy.format_float_scientific(numpy.float32(value), unique=True, trim="0")
    return numpy.format_float_positional(numpy.float32(value), unique=True, trim="0")
