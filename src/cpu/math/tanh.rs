//! tanh and its derivative.

use super::{exp, table};
use crate::cpu::simd::{Lanes, Simd};

/// From here on tanh rounds to 1.
const SATURATED: f32 = 9.1;
/// From here on sech² rounds to 0.
const VANISHED: f32 = 53.0;
/// tanh is less than 1/2 below 0.5493.
const HALF: f32 = 0.55;
/// 2⁶⁴.
const SCALE: f32 = 18_446_744_073_709_551_616.0;

/// tanh u, at most 2 ulp off for every finite u.
///
/// ```text
/// e = e^(−2|u|),  m = e − 1,  tanh |u| = −m/(2 + m) below `HALF`, 1 − 2e/(2 + m) from there on
/// ```
#[inline(always)]
pub(crate) fn tanh<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    if S::TABLES {
        return table::tanh(simd, u);
    }
    let (one, two) = (simd.splat(1.0), simd.splat(2.0));
    let mut x = u;
    for x in &mut x {
        *x = x.abs().at_most(simd.splat(SATURATED)) * simd.splat(-2.0);
    }
    let parts = exp::split(simd, &x, None);
    let scale = parts.power::<S, 0>(simd);
    let mut t = x;
    for i in 0..N {
        let m = scale[i].mul_add(parts.p[i], scale[i] - one);
        let double = scale[i] + scale[i];
        let small = simd.splat(-2.0 * HALF).lt(x[i]);
        let q = S::F::select(small, -m, double.mul_add(parts.p[i], double)) / (two + m);
        t[i] = S::F::select(small, q, one - q).copysign(u[i]);
    }
    t
}

/// tanh u, at most 2 ulp off, and sech² u = 1 − tanh² u, at most 4 ulp off.
///
/// ```text
/// w = 1 − tanh |u|,  sech² u = w (2 − w)
/// ```
#[inline(always)]
pub(crate) fn tanh_grad<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
    let (one, two) = (simd.splat(1.0), simd.splat(2.0));
    let (up, down) = (simd.splat(SCALE), simd.splat(1.0 / SCALE));
    let mut x = u;
    for x in &mut x {
        *x = x.abs().at_most(simd.splat(VANISHED)) * simd.splat(-2.0);
    }
    let parts = exp::split(simd, &x, None);
    // All of it 2⁶⁴ times too large, so that only the last multiplication can underflow, and rounds once.
    let scale = parts.power::<S, 64>(simd);
    let (mut t, mut slope) = (x, x);
    for i in 0..N {
        let m = scale[i].mul_add(parts.p[i], scale[i] - up);
        let double = scale[i] + scale[i];
        let small = simd.splat(-2.0 * HALF).lt(x[i]);
        let q = S::F::select(small, -m, double.mul_add(parts.p[i], double)) / m.mul_add(down, two);
        let near = q * down;
        let far = one - near;
        t[i] = S::F::select(small, near, far).copysign(u[i]);
        let w = S::F::select(small, far, near);
        slope[i] = (S::F::select(small, far * up, q) * (two - w)) * down;
    }
    (t, slope)
}

/// tanh u to within a quarter of an ulp of f16, for results that are stored in 16 bits.
#[inline(always)]
pub(crate) fn tanh_narrow<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    if S::TABLES {
        return table::tanh_narrow(simd, u);
    }
    tanh(simd, u)
}
