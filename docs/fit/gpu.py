"""Fits the coefficients of kernels/math.cuh and shaders/lib/math.wgsl and writes them there, between two marks.

    python docs/fit/gpu.py

Needs what requirements.txt names. The errors of the fits go to stderr. docs/math.md explains the method and the formulas.
"""

import pathlib
import sys

import mpmath
import numpy
from mpmath import mpf

from fitting import polynomial, ulp

ROOT = pathlib.Path(__file__).resolve().parents[2]
TWO_OVER_SQRT_PI = 2 / mpmath.sqrt(mpmath.pi)
LN2 = mpmath.log(2)
# Up to here tanh and erf are polynomials; both are more than 1/2 there.
TANH_NEAR_END, ERF_NEAR_END = 0.65, 0.6
# Up to here, for results of 16 bits, both are their tangents at 0.
NEAR_END_16 = 2.0**-7
# From here on erf rounds to 1.
ERF_END = 3.95


def tanh_near():
    """(tanh a / a - 1)/a^2 in powers of z = a^2."""
    def function(z):
        a = mpmath.sqrt(z)
        return (mpmath.tanh(a) / a - 1) / z if z > 1e-12 else mpf(-1) / 3

    def weight(z):
        a = mpmath.sqrt(z)
        return a * z / ulp(mpmath.tanh(a)) if z else 0

    return polynomial(function, 0, (TANH_NEAR_END + 0.001) ** 2, 4, weight)


def erf_near():
    """erf a / a - 1 in powers of z = a^2."""
    def function(z):
        a = mpmath.sqrt(z)
        return mpmath.erf(a) / a - 1 if z > 1e-12 else TWO_OVER_SQRT_PI - 1

    def weight(z):
        a = mpmath.sqrt(z)
        return a / ulp(mpmath.erf(a)) if z > 1e-12 else 2**24 / TWO_OVER_SQRT_PI

    return polynomial(function, 0, (ERF_NEAR_END + 0.001) ** 2, 5, weight)


def log2_erfc():
    """log2(1 - erf a) in powers of a, weighted for the error of erf in ulp."""
    def function(a):
        return mpmath.log(mpmath.erfc(a), 2)

    def weight(a):
        return mpmath.erfc(a) * LN2 * 2**24

    return polynomial(function, ERF_NEAR_END - 0.001, ERF_END, 7, weight)


def log2_erfc_16():
    """The same for results of 16 bits, from where the tangent at 0 no longer serves."""
    def function(a):
        return mpmath.log(mpmath.erfc(a), 2)

    def weight(a):
        return mpmath.erfc(a) * LN2 / ulp(mpmath.erf(a), 11)

    return polynomial(function, NEAR_END_16, 3.2, 5, weight)


def exp2_near():
    """(2^r - 1)/r for |r| <= 1/2, weighted for the relative error of 2^r."""
    def function(r):
        return (mpf(2) ** r - 1) / r if abs(r) > 1e-15 else LN2

    return polynomial(function, -0.5, 0.5, 5, lambda r: abs(r) / mpf(2) ** r * 2**24)


FITS = [
    ("TANH_NEAR", tanh_near, "ulp of tanh", f"(tanh a / a - 1)/a^2 in powers of a^2, a up to {TANH_NEAR_END}."),
    ("ERF_NEAR", erf_near, "ulp of erf", f"erf a / a - 1 in powers of a^2, a up to {ERF_NEAR_END}."),
    ("LOG2_ERFC", log2_erfc, "ulp of erf", f"log2(1 - erf a) in powers of a, a from {ERF_NEAR_END} to {ERF_END}."),
    ("LOG2_ERFC_16", log2_erfc_16, "ulp of f16", "The same for results of 16 bits."),
    ("EXP2_NEAR", exp2_near, "* 2^-24 of 2^r", "(2^r - 1)/r in powers of r, |r| <= 1/2."),
]
# kernels/math.cuh has the processor's 2^x; the shaders have one erf for all types.
SHADER_ONLY, KERNEL_ONLY = {"EXP2_NEAR"}, {"LOG2_ERFC_16"}


def literal(value):
    """A decimal that rounds to this f32, also by way of f64."""
    text = numpy.format_float_scientific(numpy.float32(value), unique=True, trim="0")
    assert numpy.float32(numpy.float64(text)) == numpy.float32(value)
    return text


def block(fits, pattern):
    """The lines of all fits, each constant by `pattern`."""
    lines = []
    for name, doc, c in fits:
        lines.append(f"// {doc}")
        lines += [pattern.format(name=f"{name}_{k}", value=literal(v)) for k, v in enumerate(c)]
    return "\n".join(lines) + "\n"


def write(path, text):
    """Puts `text` between the two marks of the file."""
    before, begin, rest = path.read_text().partition("// <coefficients> by docs/fit/gpu.py\n")
    _, end, after = rest.partition("// </coefficients>\n")
    if not begin or not end:
        raise ValueError(f"{path} lacks the marks")
    path.write_text(before + begin + text + end + after)


def main():
    fits = []
    for name, fit, unit, doc in FITS:
        c, error = fit()
        print(f"{name}: {error:.3f} {unit}", file=sys.stderr)
        fits.append((name, doc, c))
    kernel = [f for f in fits if f[0] not in SHADER_ONLY]
    shader = [f for f in fits if f[0] not in KERNEL_ONLY]
    write(ROOT / "kernels/math.cuh", block(kernel, "constexpr float {name} = {value}f;"))
    write(ROOT / "shaders/lib/math.wgsl", block(shader, "const {name}: f32 = {value};"))


if __name__ == "__main__":
    main()
