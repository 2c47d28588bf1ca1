//! tanh and its derivative.

use super::tables::{EXP_8, EXP_16, TANH_8, TANH_16, TANH_BF16_16, TANH_F16_8, TANH_F16_16, TANH_NEAR};
use super::{exp, horner, signed, table};
use crate::cpu::each::each;
use crate::cpu::simd::{Lanes, Simd};

/// From here on tanh rounds to 1.
const SATURATED: f32 = 9.1;
/// From here on sech² rounds to 0.
const VANISHED: f32 = 53.0;
/// From here on tanh is more than 1/2, so that 1 − (1 − tanh) loses nothing.
const HALF: f32 = 0.55;

/// tanh u, at most 2 ulp off for every finite u.
///
/// Register tables where the level has them; else, with e = e^(−2a),
///
/// ```text
/// tanh a = a + a³ P(a²) below `HALF`, 1 − 2e/(1 + e) from there on
/// ```
#[inline(always)]
pub(crate) fn tanh<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    let t = match S::ENTRIES {
        16 => table::centred::<_, _, _, _, false>(simd, &u, &TANH_16),
        8 => table::centred::<_, _, _, _, false>(simd, &u, &TANH_8),
        _ => {
            let (e, d) = exp_and_sum::<S, N, 0>(simd, &u, SATURATED);
            let mut t = near(simd, &u);
            each!(i < N, {
                let far = simd.splat(1.0) - (e[i] + e[i]) / d[i];
                t[i] = S::F::select(u[i].abs().lt(simd.splat(HALF)), t[i], far);
            });
            t
        }
    };
    signed(t, &u)
}

/// tanh u, at most 2 ulp off, and sech² u = 1 − tanh² u, at most 4 ulp off.
#[inline(always)]
pub(crate) fn tanh_grad<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
    let (t, slope) = match S::ENTRIES {
        16 => {
            let t = table::centred::<_, _, _, _, false>(simd, &u, &TANH_16);
            (t, table::sech2(simd, &u, &t, VANISHED, &EXP_16))
        }
        8 => {
            let t = table::centred::<_, _, _, _, false>(simd, &u, &TANH_8);
            (t, table::sech2(simd, &u, &t, VANISHED, &EXP_8))
        }
        _ => grad_by_exp(simd, &u),
    };
    (signed(t, &u), slope)
}

/// tanh |u| and sech² u.
///
/// ```text
/// w = 1 − tanh |u| = 2e/(1 + e),  sech² u = w (2 − w)
/// ```
#[inline(always)]
fn grad_by_exp<S: Simd, const N: usize>(simd: S, u: &[S::F; N]) -> ([S::F; N], [S::F; N]) {
    let down = simd.splat(1.0 / exp::LARGE);
    let (e, d) = exp_and_sum::<S, N, 64>(simd, u, VANISHED);
    let mut t = near(simd, u);
    let mut slope = e;
    each!(i < N, {
        let large = (e[i] + e[i]) / d[i];
        let w = large * down;
        let far = simd.splat(1.0) - w;
        t[i] = S::F::select(u[i].abs().lt(simd.splat(HALF)), t[i], far);
        slope[i] = (large * (simd.splat(2.0) - w)) * down;
    });
    (t, slope)
}

/// e = e^(−2|u|)·2^UP and 1 + e^(−2|u|), |u| up to `limit`.
#[inline(always)]
fn exp_and_sum<S: Simd, const N: usize, const UP: u8>(
    simd: S,
    u: &[S::F; N],
    limit: f32,
) -> ([S::F; N], [S::F; N]) {
    let mut y = *u;
    each!(i < N, {
        let a = u[i].abs().at_most(simd.splat(limit));
        y[i] = a + a;
    });
    let (mut e, r) = exp::reduce::<S, N, UP>(simd, &y, None);
    let p = exp::expm1(simd, &r);
    let mut d = e;
    each!(i < N, {
        e[i] = e[i].mul_add(p[i], e[i]);
        d[i] = if UP == 0 {
            simd.splat(1.0) + e[i]
        } else {
            e[i].mul_add(simd.splat(1.0 / exp::LARGE), simd.splat(1.0))
        };
    });
    (e, d)
}

/// tanh a near 0; elsewhere any value, but NaN for NaN.
#[inline(always)]
fn near<S: Simd, const N: usize>(simd: S, u: &[S::F; N]) -> [S::F; N] {
    let (mut a, mut z) = (*u, *u);
    each!(i < N, {
        a[i] = u[i].abs();
        z[i] = a[i] * a[i];
    });
    let p = horner(simd, &TANH_NEAR, &z);
    each!(i < N, {
        a[i] = (a[i] * z[i]).mul_add(p[i], a[i]);
    });
    a
}

/// tanh u to within a quarter of an ulp of f16.
#[inline(always)]
pub(crate) fn tanh_f16<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    match S::ENTRIES {
        16 => signed(table::plain(simd, &u, &TANH_F16_16), &u),
        8 => signed(table::plain(simd, &u, &TANH_F16_8), &u),
        _ => tanh(simd, u),
    }
}

/// tanh u to within a quarter of an ulp of bf16.
#[inline(always)]
pub(crate) fn tanh_bf16<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    match S::ENTRIES {
        16 => signed(table::plain(simd, &u, &TANH_BF16_16), &u),
        _ => tanh_f16(simd, u),
    }
}
