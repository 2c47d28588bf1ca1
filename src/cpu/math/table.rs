//! Polynomials from register tables: the upper bits of |u| + shift choose a bin, and each coefficient is one lookup.

use super::exp;
use super::tables::{Curve, Exp};
use crate::cpu::each::each;
use crate::cpu::simd::{Lanes, Simd};

/// |u| up to `limit`, and its bin in the low bits. A NaN passes.
#[inline(always)]
fn bins<S: Simd, const N: usize, const E: usize, const K: usize>(
    simd: S,
    u: &[S::F; N],
    curve: &Curve<E, K>,
) -> ([S::F; N], [S::F; N]) {
    let (mut a, mut bin) = (*u, *u);
    each!(i < N, {
        a[i] = u[i].abs().at_most(simd.splat(curve.limit));
        bin[i] = (a[i] + simd.splat(curve.shift)).shift_right(if E == 16 { 21 } else { 22 });
    });
    (a, bin)
}

/// The polynomial at `x` with the coefficients of `rows`, lowest first, that `bin` chooses.
#[inline(always)]
fn horner<S: Simd, const N: usize, const E: usize>(
    simd: S,
    rows: &[[f32; E]],
    x: &[S::F; N],
    bin: &[S::F; N],
) -> [S::F; N] {
    let mut y = *x;
    for (k, row) in rows.iter().enumerate().rev() {
        each!(i < N, {
            let c = simd.lookup(row, bin[i]);
            y[i] = if k + 1 == rows.len() { c } else { y[i].mul_add(x[i], c) };
        });
    }
    y
}

/// The same of degree 6, c₀ + x((c₁ + c₂x) + x²((c₃ + c₄x) + x²(c₅ + c₆x))): a shorter chain of dependent
/// instructions than [`horner`]'s, and as exact, since the lowest terms still join last.
#[inline(always)]
fn by_pairs<S: Simd, const N: usize, const E: usize>(
    simd: S,
    rows: &[[f32; E]],
    x: &[S::F; N],
    bin: &[S::F; N],
) -> [S::F; N] {
    let pair =
        |k: usize, i: usize| simd.lookup(&rows[k + 1], bin[i]).mul_add(x[i], simd.lookup(&rows[k], bin[i]));
    let mut y = *x;
    each!(i < N, {
        let square = x[i] * x[i];
        y[i] = pair(5, i).mul_add(square, pair(3, i)).mul_add(square, pair(1, i));
    });
    each!(i < N, {
        y[i] = y[i].mul_add(x[i], simd.lookup(&rows[0], bin[i]));
    });
    y
}

/// f |u| of a curve with centres e: with s = |u| − e, which is exact, c₀ + s·(c₁ + c₂s + …).
///
/// With `PLUS`, the first bin holds f a − a, and its constant is a = s, which is greater than the entry there and less
/// in all other bins.
#[inline(always)]
pub(super) fn centred<S: Simd, const N: usize, const E: usize, const K: usize, const PLUS: bool>(
    simd: S,
    u: &[S::F; N],
    curve: &Curve<E, K>,
) -> [S::F; N] {
    let (mut s, bin) = bins(simd, u, curve);
    each!(i < N, {
        s[i] = s[i] - simd.lookup(&curve.rows[0], bin[i]);
    });
    let slopes = &curve.rows[2..];
    let mut y = if K == 9 { by_pairs(simd, slopes, &s, &bin) } else { horner(simd, slopes, &s, &bin) };
    each!(i < N, {
        let c = simd.lookup(&curve.rows[1], bin[i]);
        y[i] = y[i].mul_add(s[i], if PLUS { s[i].at_least(c) } else { c });
    });
    y
}

/// f |u| of a curve without centres, for results that are stored in 16 bits.
#[inline(always)]
pub(super) fn plain<S: Simd, const N: usize, const E: usize, const K: usize>(
    simd: S,
    u: &[S::F; N],
    curve: &Curve<E, K>,
) -> [S::F; N] {
    let (a, bin) = bins(simd, u, curve);
    horner(simd, &curve.rows, &a, &bin)
}

/// sech² |u| from t = tanh |u|: with e = e^(−2|u|), 1/(1 + e) = (1 + t)/2 and sech² = 4e/(1 + e)² = e(1 + t)².
///
/// Unlike 1 − t² it keeps its relative accuracy where tanh saturates.
#[inline(always)]
pub(super) fn sech2<S: Simd, const N: usize, const E: usize>(
    simd: S,
    u: &[S::F; N],
    t: &[S::F; N],
    limit: f32,
    exp: &Exp<E>,
) -> [S::F; N] {
    let mut y = *u;
    each!(i < N, {
        let a = u[i].abs().at_most(simd.splat(limit));
        y[i] = a + a;
    });
    let e = exp::by_table(simd, &y, None, exp);
    each!(i < N, {
        let w = e[i].mul_add(t[i], e[i]);
        y[i] = w.mul_add(t[i], w) * simd.splat(1.0 / exp::LARGE);
    });
    y
}
