"""Piecewise polynomials whose piece is chosen by the upper bits of a + shift."""

from fractions import Fraction

import mpmath
import numpy
from mpmath import mpf

from fitting import f32, polynomial, ulp

TINY = mpf("1e-9")


def bins(shift, limit, entries):
    """{index: (low, high)} in a, for the index that ends with the highest bit of the fraction of f32(a + shift) where
    there are 8 entries, with the three highest where there are 32."""
    drop = {8: 22, 32: 20}[entries]

    def upper_bits(v):
        return int(numpy.float32(v).view(numpy.uint32)) >> drop

    def edge(k):
        return float(numpy.uint32(k << drop).view(numpy.float32)) - shift

    found = {}
    for k in range(upper_bits(shift), upper_bits(shift + limit) + 1):
        assert k % entries not in found, "too many bins"
        found[k % entries] = (max(edge(k), 0.0), min(edge(k + 1), limit))
    return found


def centres(function, low, high, degree):
    """Points where the function is nearly an f32, with that f32: near the middle, and to both sides of it where the error
    of the best polynomial of an odd degree has its zeros, because the fit is exact at the centre. The best fit is taken."""
    def miss(e):
        t = function(mpf(e))
        return abs(t - mpf(f32(t))) / ulp(t)

    off = (high - low) / 2 * numpy.sin(numpy.pi / 2 / (degree + 1))
    for near in (0, off, -off):
        first = f32((low + high) / 2 + near)
        step = float(numpy.spacing(numpy.float32(first)))
        e = min((first + k * step for k in range(-2000, 2001)), key=miss)
        yield e, f32(function(mpf(e)))


def first_bin(function, high, degree, slope, apart):
    """Coefficients for [0, high]: f a - apart a = c1 a + c2 a^2 + ...; `slope` is c1, or None to fit it too."""
    def ratio(a):
        return function(max(a, TINY)) / max(a, TINY) - apart

    def weight(a):
        return a / ulp(function(a)) if a > TINY else 0

    c, error = polynomial(ratio, 0, high, degree - 1, weight, None if slope is None else {0: slope})
    return [0.0] + c, error


def around(function, e, c0, low, high, degree):
    """Coefficients in s = a - e for [low, high], the lowest of them c0, and their error in ulp."""
    c, error = polynomial(lambda s: function(mpf(e) + s) - mpf(c0), low - e, high - e, degree,
                          lambda s: 1 / ulp(function(mpf(e) + s)), {0: 0.0}, 120, rounds=150)
    return [c0] + c[1:], error


def fused(coefficients, x):
    """Horner's rule with fused multiply-add in f32."""
    y = Fraction(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        exact = y * Fraction(x) + Fraction(c)
        y = Fraction(f32(mpf(exact.numerator) / exact.denominator))
    return float(y)


def centred(function, shift, limit, degree, entries, slope=None, apart=0):
    """Rows of a table: the centres e, then the coefficients in a - e, lowest first; and the errors in ulp.

    The pieces from `limit` on, where there are any, are 1.
    """
    rows, errors = numpy.zeros((degree + 2, entries)), {}
    for k, (low, high) in bins(shift, limit, entries).items():
        if low >= limit:
            rows[1, k] = 1.0
        elif low == 0:
            rows[1:, k], errors[k] = first_bin(function, high, degree, slope, apart)
        else:
            fits = [(e, *around(function, e, c0, low, high, degree)) for e, c0 in centres(function, low, high, degree)]
            # At the end of the last piece the function must be 1 in f32.
            fits = [fit for fit in fits if high < limit or fused(fit[1], f32(limit) - fit[0]) == 1.0]
            e, c, errors[k] = min(fits, key=lambda fit: fit[2])
            rows[:, k] = [e] + c
    return rows, errors


def end_at_one(c, limit):
    """c with the constant moved by some units in the last place, so that f32 arithmetic gives 1 at `limit`."""
    for step in sorted(range(-400, 401), key=abs):
        moved = [f32(c[0] + step * 2.0**-24)] + c[1:]
        if fused(moved, limit) == 1.0:
            return moved
    raise ArithmeticError("no constant gives 1")


def plain(function, shift, limit, degree, entries, bits):
    """Rows of coefficients in a itself, lowest first, that give 1 from `limit` on; and the errors in ulp of a type with so
    many bits of significand."""
    rows, errors = numpy.zeros((degree + 1, entries)), {}
    for k, (low, high) in bins(shift, limit, entries).items():
        if low >= limit:
            rows[0, k] = 1.0
            continue
        last = high == limit

        def target(a):
            return mpf(1) if last and a == limit else function(a)

        def weight(a):
            if a < TINY:
                return 0
            return 1 / ulp(function(a), bits) * (1000 if last and a == limit else 1)

        fixed = {0: 0.0} if low == 0 else None
        c, _ = polynomial(target, low, high, degree, weight, fixed, 120, rounds=150)
        c = end_at_one(c, limit) if last else c
        x = numpy.linspace(max(low, 1e-6), high, 500)
        errors[k] = max(abs(sum(v * a**i for i, v in enumerate(c)) - float(function(mpf(a)))) / ulp(function(mpf(a)), bits)
                        for a in x)
        rows[:, k] = c
    return rows, errors
