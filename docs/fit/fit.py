"""Fits every coefficient of src/cpu/math and prints it as Rust.

    python fit.py expm1 | erf | tanh_table | erf_table | tanh_narrow_table | erf_narrow_table

Needs numpy and mpmath. Deterministic.
"""

import sys

import mpmath
import numpy
from mpmath import mpf

from fitting import f32, polynomial, rust, rust_table

HALF_ULP = mpf(2) ** -24


def ulp(value, bits):
    """The unit in the last place of a float with `bits` of significand."""
    return 2.0 ** (numpy.floor(numpy.log2(abs(float(value)))) - (bits - 1))


def expm1():
    """(e^r - 1 - r)/r^2, weighted for the relative error of e^r - 1."""
    def function(r):
        return (mpmath.expm1(r) - r) / r**2 if abs(r) > 1e-15 else mpf(1) / 2
    half = float(mpmath.log(2) / 2) * 1.0001
    weight = lambda r: abs(r * r / mpmath.expm1(r)) if r else 0
    c, error = polynomial(function, -half, half, 4, weight)
    print(f"// relative error of e^r - 1: {error / HALF_ULP:.2f} * 2^-24", file=sys.stderr)
    rust("EXPM1", c)


def erf():
    """-ln(1 - erf a)/a - 1, weighted for the relative error of erf."""
    def function(a):
        return -mpmath.log(mpmath.erfc(a)) / a - 1 if a > 1e-15 else 2 / mpmath.sqrt(mpmath.pi) - 1
    def weight(a):
        return a / mpmath.expm1(a * (1 + function(a))) if a > 1e-9 else mpmath.sqrt(mpmath.pi) / 2
    c, error = polynomial(function, 0, 3.95, 8, weight)
    print(f"// relative error of erf: {error / HALF_ULP:.2f} * 2^-24", file=sys.stderr)
    rust("LOG_ERFC", c)


def bins(shift, clamp):
    """{index: (low, high)} in a, for the index that bits 21 to 24 of f32(a + shift) hold."""
    def upper_bits(v):
        return int(numpy.float32(v).view(numpy.uint32)) >> 21
    def edge(k):
        return float(numpy.uint32(k << 21).view(numpy.float32)) - shift
    found = {}
    for k in range(upper_bits(shift), upper_bits(shift + clamp) + 1):
        assert k & 15 not in found, "more than 16 bins"
        found[k & 15] = (max(edge(k), 0.0), min(edge(k + 1), clamp))
    return found


def centre(function, low, high):
    """A point near the middle where the function is nearly an f32, and that f32."""
    middle = f32((low + high) / 2)
    step = float(numpy.spacing(numpy.float32(middle)))
    def miss(e):
        t = function(mpf(e))
        return abs(t - mpf(f32(t))) / ulp(t, 24)
    e = min((middle + k * step for k in range(-2000, 2001)), key=miss)
    return e, f32(function(mpf(e)))


def table(name, function, shift, clamp, degree, slope, saturated):
    """Centres and coefficients of all bins; function = c0 + c1 s + ... with s = a - e.

    In the bin of 0 the centre and c0 are 0 and `slope` is c1, less the 1 that the code adds where `slope` asks.
    """
    rows = numpy.zeros((degree + 2, 16))
    for k, (low, high) in bins(shift, clamp).items():
        if low >= saturated:
            rows[1, k], error = 1.0, 0.0
        elif low == 0:
            c1, less = slope
            def ratio(a):
                a = a if a > 1e-9 else mpf("1e-9")
                return function(a) / a - less
            weight = lambda a: a / ulp(function(a), 24) if a > 1e-9 else 0
            c, error = polynomial(ratio, 0, high, degree - 1, weight, {0: c1} if c1 is not None else None)
            rows[2:, k] = c
        else:
            e, c0 = centre(function, low, high)
            c, error = polynomial(lambda s: function(mpf(e) + s) - mpf(c0), low - e, high - e, degree,
                                  lambda s: 1 / ulp(function(mpf(e) + s), 24), {0: 0.0}, 120, rounds=150)
            rows[:, k] = [e, c0] + c[1:]
        print(f"// entry {k:2}: {low:.5g} to {high:.5g}, {error:.2f} ulp of fit", file=sys.stderr)
    rust_table(name, rows)


def narrow_table(name, function, shift, clamp, degree, saturated):
    """Coefficients in a itself, of all bins, weighted for the ulp of f16."""
    rows = numpy.zeros((degree + 1, 16))
    for k, (low, high) in bins(shift, clamp).items():
        error = 0.0
        if low >= saturated:
            rows[0, k] = 1.0
        else:
            fixed = {0: 0.0} if low == 0 else None
            c, error = polynomial(function, low, high, degree,
                                  lambda a: 1 / ulp(function(a), 11) if a > 1e-9 else 0, fixed, 120, rounds=150)
            rows[:, k] = c
        print(f"// entry {k:2}: {low:.5g} to {high:.5g}, {error:.3f} f16 ulp of fit", file=sys.stderr)
    rust_table(name, rows)


FITS = {
    "expm1": expm1,
    "erf": erf,
    "tanh_table": lambda: table("TANH", mpmath.tanh, 0.75, 9.25, 5, (1.0, 0), 9.25),
    "erf_table": lambda: table("ERF", mpmath.erf, 0.375, 4.0, 5, (None, 1), 9.0),
    "tanh_narrow_table": lambda: narrow_table("TANH_NARROW", mpmath.tanh, 0.4375, 5.5625, 3, 5.5),
    "erf_narrow_table": lambda: narrow_table("ERF_NARROW", mpmath.erf, 0.21875, 2.78125, 3, 2.75),
}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or FITS:
        FITS[wanted]()
