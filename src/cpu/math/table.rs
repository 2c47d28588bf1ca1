//! Polynomials from register tables: the upper bits of |u| + shift choose one of 16 bins, and each coefficient is
//! one lookup.

use super::tables;
use crate::cpu::simd::{Lanes, Simd};

/// |u| up to `limit`, and the key that chooses the bin. A NaN passes into the first.
#[inline(always)]
fn keys<S: Simd, const N: usize>(simd: S, u: &[S::F; N], shift: f32, limit: f32) -> ([S::F; N], [S::F; N]) {
    let (mut a, mut key) = (*u, *u);
    for i in 0..N {
        a[i] = u[i].abs().at_most(simd.splat(limit));
        key[i] = a[i] + simd.splat(shift);
    }
    (a, key)
}

/// The polynomial at `x` with the coefficients of `rows`, lowest first, that `key` chooses.
#[inline(always)]
fn horner<S: Simd, const N: usize>(simd: S, rows: &[[f32; 16]], x: &[S::F; N], key: &[S::F; N]) -> [S::F; N] {
    let mut y = *x;
    for (k, row) in rows.iter().enumerate().rev() {
        for i in 0..N {
            let c = simd.lookup(row, key[i]);
            y[i] = if k + 1 == rows.len() { c } else { y[i].mul_add(x[i], c) };
        }
    }
    y
}

/// |u| − centre of its bin: exact.
#[inline(always)]
fn centred<S: Simd, const N: usize>(simd: S, row: &[f32; 16], a: &[S::F; N], key: &[S::F; N]) -> [S::F; N] {
    let mut s = *a;
    for i in 0..N {
        s[i] = a[i] - simd.lookup(row, key[i]);
    }
    s
}

#[inline(always)]
fn signed<F: Lanes, const N: usize>(mut y: [F; N], u: &[F; N]) -> [F; N] {
    for i in 0..N {
        y[i] = y[i].copysign(u[i]);
    }
    y
}

/// tanh u, at most 2 ulp off where multiply-add is fused.
#[inline(always)]
pub(super) fn tanh<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    let (a, key) = keys(simd, &u, 0.75, 9.25);
    let s = centred(simd, &tables::TANH[0], &a, &key);
    signed(horner(simd, &tables::TANH[1..], &s, &key), &u)
}

/// erf u, at most 2 ulp off where multiply-add is fused.
#[inline(always)]
pub(super) fn erf<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    let (a, key) = keys(simd, &u, 0.375, 4.0);
    let s = centred(simd, &tables::ERF[0], &a, &key);
    let mut y = horner(simd, &tables::ERF[2..], &s, &key);
    for i in 0..N {
        // In the first bin a itself is exact in the sum: 2/√π rounded to f32 would cost half an ulp.
        let first = key[i].lt(simd.splat(0.4375));
        let c0 = S::F::select(first, a[i], simd.lookup(&tables::ERF[1], key[i]));
        y[i] = y[i].mul_add(s[i], c0);
    }
    signed(y, &u)
}

/// tanh u to within a quarter of an ulp of f16.
#[inline(always)]
pub(super) fn tanh_narrow<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    let (a, key) = keys(simd, &u, 0.4375, 5.5625);
    signed(horner(simd, &tables::TANH_NARROW, &a, &key), &u)
}

/// erf u to within a quarter of an ulp of f16.
#[inline(always)]
pub(super) fn erf_narrow<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    let (a, key) = keys(simd, &u, 0.21875, 2.78125);
    signed(horner(simd, &tables::ERF_NARROW, &a, &key), &u)
}
