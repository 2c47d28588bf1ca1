"""Fits every coefficient of src/cpu/math and prints src/cpu/math/tables.rs; the errors of the fits go to stderr.

    python docs/fit/fit.py > src/cpu/math/tables.rs

Needs what requirements.txt names: with those versions it prints the file as it is. docs/math.md explains the method.
"""

import sys

import mpmath
from mpmath import mpf

import tables
from fitting import f32, polynomial, ulp
from rust import HEADER, array, curve, exponential

TWO_OVER_SQRT_PI = 2 / mpmath.sqrt(mpmath.pi)


def report(name, errors, unit):
    """Tells the error of each fit."""
    listed = errors.items() if isinstance(errors, dict) else [("all", errors)]
    print(f"{name}: " + ", ".join(f"{k}: {e:.3f}" for k, e in listed) + f" {unit}", file=sys.stderr)


def exp_minus(half, degree):
    """(e^-r - 1 + r)/r^2 for |r| <= half, weighted for the relative error of e^-r - 1."""
    def function(r):
        return (mpmath.expm1(-r) + r) / r**2 if abs(r) > 1e-15 else mpf(1) / 2

    def weight(r):
        return abs(r * r / mpmath.expm1(-r)) * 2**24 if r else 0

    return polynomial(function, -half, half, degree, weight)


def print_exp():
    """e^-y: one polynomial between powers of two, and the shorter ones between the steps of a table."""
    c, error = exp_minus(float(mpmath.log(2) / 2) * 1.0001, 4)
    report("EXPM1", error, "* 2^-24 of e^-r - 1")
    array("(e^(−r) − 1 + r)/r² for |r| ≤ ln 2 / 2.", "EXPM1", c)
    for entries in (8, 16):
        half = float(mpmath.log(2) / 2 / entries) * 1.001
        def function(r):
            return mpmath.expm1(-r) / r if abs(r) > 1e-15 else mpf(-1)
        c, error = polynomial(function, -half, half, 2, lambda r: abs(r) * 2**24, {0: -1.0})
        report(f"e^-r by {entries}", error, "* 2^-24")
        exponential("e^(−2a)·2⁶⁴.", f"EXP_{entries}", tables.powers(mpf(1), entries), c)
        exponential("2/√π·e^(−y)·2⁶⁴.", f"SLOPE_{entries}", tables.powers(TWO_OVER_SQRT_PI, entries), c)


def print_tanh():
    """(tanh a / a - 1)/a^2 in powers of z = a^2, for a below 0.55."""
    def function(z):
        a = mpmath.sqrt(z)
        return (mpmath.tanh(a) / a - 1) / z if z > 1e-12 else mpf(-1) / 3

    def weight(z):
        a = mpmath.sqrt(z)
        return a * z / ulp(mpmath.tanh(a)) if z else 0

    c, error = polynomial(function, 0, 0.551**2, 4, weight)
    report("TANH_NEAR", error, "ulp")
    array("(tanh a / a − 1)/a² in powers of a², for a from 0 to 0.55.", "TANH_NEAR", c)


def print_erf():
    """-ln(1 - erf a)/a - 1, weighted for the relative error of erf."""
    def function(a):
        return -mpmath.log(mpmath.erfc(a)) / a - 1 if a > 1e-15 else TWO_OVER_SQRT_PI - 1

    def weight(a):
        return a / mpmath.expm1(a * (1 + function(a))) * 2**24 if a > 1e-9 else 2**24 / TWO_OVER_SQRT_PI

    c, error = polynomial(function, 0, 3.95, 8, weight)
    report("LOG_ERFC", error, "* 2^-24 of erf")
    array("−ln(1 − erf a)/a − 1 for a from 0 to 3.95.", "LOG_ERFC", c)


# Name, function, shift, limit, degree, entries, and what `tables.centred` takes besides.
CENTRED = [
    ("TANH_8", mpmath.tanh, 0.75, 9.2, 7, 8, {"slope": 1.0}),
    ("TANH_16", mpmath.tanh, 0.625, 9.2, 5, 16, {"slope": 1.0}),
    ("ERF_8", mpmath.erf, 0.375, 3.95, 7, 8, {"apart": 1}),
    ("ERF_16", mpmath.erf, 0.3125, 3.95, 5, 16, {"apart": 1}),
]
# Name, function, shift, limit, degree, entries, significant bits of the storage type.
PLAIN = [
    ("TANH_F16_8", mpmath.tanh, 0.375, 5.5, 3, 8, 11),
    ("TANH_F16_16", mpmath.tanh, 0.4375, 5.5625, 3, 16, 11),
    ("ERF_F16_8", mpmath.erf, 0.1875, 2.75, 3, 8, 11),
    ("ERF_F16_16", mpmath.erf, 0.21875, 2.78125, 3, 16, 11),
    ("TANH_BF16_16", mpmath.tanh, 0.375, 4.5, 2, 16, 8),
    ("ERF_BF16_16", mpmath.erf, 0.375, 2.5, 2, 16, 8),
]


def main():
    print(HEADER)
    print_exp()
    print_tanh()
    print_erf()
    for name, function, shift, limit, degree, entries, more in CENTRED:
        rows, errors = tables.centred(function, shift, limit, degree, entries, **more)
        report(name, errors, "ulp")
        apart = ", less a in the first piece" if "apart" in more else ""
        curve(f"{function.__name__} a by centre and coefficients{apart}.", name, shift, limit, rows)
    for name, function, shift, limit, degree, entries, bits in PLAIN:
        rows, errors = tables.plain(function, shift, limit, degree, entries, bits)
        storage = {11: "f16", 8: "bf16"}[bits]
        report(name, errors, f"ulp of {storage}")
        curve(f"{function.__name__} a by coefficients in a, for {storage}.", name, shift, limit, rows)


if __name__ == "__main__":
    main()
