"""Fits every coefficient of src/cpu/math and prints src/cpu/math/tables.rs; the errors of the fits go to stderr.

    python docs/fit/fit.py > src/cpu/math/tables.rs

Needs what requirements.txt names. docs/math.md explains the method.
"""

import sys

import mpmath
from mpmath import mpf

import gpu
import tables
from fitting import polynomial
from rust import HEADER, array, pieces


def report(name, errors, unit):
    """Tells the error of each fit."""
    listed = errors.items() if isinstance(errors, dict) else [("all", errors)]
    print(f"{name}: " + ", ".join(f"{k}: {e:.3f}" for k, e in listed) + f" {unit}", file=sys.stderr)


def exp2_parts():
    """(1 - 2^f)/f for |f| <= 1/2, such that e - 1 with e = 2^n 2^f, n <= 0, is relatively exact: f below 0 is weighted
    for 2^f - 1, that is n = 0, and f above 0 for 1 - 2^(f - 1) as well, that is n = -1."""
    ln2 = mpmath.log(2)

    def function(f):
        return -mpmath.expm1(f * ln2) / f if abs(f) > 1e-15 else -ln2

    def weight(f):
        if f == 0:
            return 2**24 / ln2
        own = abs(f / mpmath.expm1(f * ln2))
        if f > 0:
            own = min(own, f / 2 / (1 - mpf(2) ** (f - 1)))
        return own * 2**24

    return polynomial(function, -0.5001, 0.5001, 5, weight)


# Name, fit, unit of its error, what it is. The last three are those of the GPUs.
POLYNOMIALS = [
    ("EXP2", exp2_parts, "* 2^-24 of e - 1", "(1 − 2^f)/f for |f| ≤ 1/2."),
    ("TANH_NEAR", gpu.tanh_near, "ulp", f"(tanh a / a − 1)/a² in powers of a², for a up to {gpu.TANH_NEAR_END}."),
    ("ERF_NEAR", gpu.erf_near, "ulp", f"erf a / a − 1 in powers of a², for a up to {gpu.ERF_NEAR_END}."),
    ("LOG2_ERFC", gpu.log2_erfc, "ulp of erf", f"log₂(1 − erf a) for a from {gpu.ERF_NEAR_END} to {gpu.ERF_END}."),
]
# Name, function, shift, limit, degree, entries, and what `tables.centred` takes besides.
CENTRED = [
    ("TANH_8", mpmath.tanh, 0.75, 9.2, 7, 8, {"slope": 1.0}),
    ("TANH_32", mpmath.tanh, 0.625, 9.2, 4, 32, {"slope": 1.0}),
    ("ERF_8", mpmath.erf, 0.375, 3.95, 7, 8, {"apart": 1}),
    ("ERF_32", mpmath.erf, 0.28125, 3.95, 4, 32, {"apart": 1}),
]
# Name, function, shift, limit, degree, entries, significant bits of the storage type.
PLAIN = [
    ("TANH_F16_8", mpmath.tanh, 0.375, 5.5, 3, 8, 11),
    ("TANH_F16_32", mpmath.tanh, 0.4375, 5.5625, 2, 32, 11),
    ("ERF_F16_8", mpmath.erf, 0.1875, 2.75, 3, 8, 11),
    ("ERF_F16_32", mpmath.erf, 0.1875, 2.75, 2, 32, 11),
    ("TANH_BF16_32", mpmath.tanh, 0.3125, 4.0, 1, 32, 8),
    ("ERF_BF16_32", mpmath.erf, 0.171875, 2.5, 1, 32, 8),
]


def main():
    print(HEADER)
    for name, fit, unit, doc in POLYNOMIALS:
        c, error = fit()
        report(name, error, unit)
        array(doc, name, c)
    for name, function, shift, limit, degree, entries, more in CENTRED:
        rows, errors = tables.centred(function, shift, limit, degree, entries, **more)
        report(name, errors, "ulp")
        apart = ", less a in the first piece" if "apart" in more else ""
        pieces(f"{function.__name__} a by centre and coefficients{apart}.", name, shift, limit, rows)
    for name, function, shift, limit, degree, entries, bits in PLAIN:
        rows, errors = tables.plain(function, shift, limit, degree, entries, bits)
        storage = {11: "f16", 8: "bf16"}[bits]
        report(name, errors, f"ulp of {storage}")
        pieces(f"{function.__name__} a by coefficients in a, for {storage}.", name, shift, limit, rows)


if __name__ == "__main__":
    main()
