//! erf and its derivative.

use super::{exp, horner, table};
use crate::cpu::simd::{Lanes, Simd};

/// From here on erf rounds to 1.
const SATURATED: f32 = 3.95;
/// From here on erf′ rounds to 0.
const VANISHED: f32 = 10.25;
/// −ln(1 − erf a)/a − 1 for a from 0 to `SATURATED`; error of erf below 0.07 ulp. `docs/fit/fit.py erf`.
const LOG_ERFC: [f32; 9] = [
    0.12837917,
    0.6366194,
    0.10277783,
    -0.01915306,
    -1.604004e-4,
    0.0016670357,
    -6.328414e-4,
    1.176425e-4,
    -9.256398e-6,
];
/// 2/√π.
const TWO_OVER_SQRT_PI: f32 = core::f32::consts::FRAC_2_SQRT_PI;

/// erf u, at most 2 ulp off for every finite u.
///
/// ```text
/// erf a = 1 − e^(−y),  y = −ln(1 − erf a) = a + a L(a)
/// ```
#[inline(always)]
pub(crate) fn erf<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    if S::TABLES {
        return table::erf(simd, u);
    }
    let mut a = u;
    for a in &mut a {
        *a = a.abs().at_most(simd.splat(SATURATED));
    }
    let l = horner(simd, &LOG_ERFC, &a);
    let mut y = a;
    for i in 0..N {
        // a itself is exact in the sum, so that the error of 2/√π counts little.
        y[i] = -a[i].mul_add(l[i], a[i]);
    }
    let mut e = exp::expm1(simd, &y);
    for i in 0..N {
        e[i] = e[i].copysign(u[i]);
    }
    e
}

/// erf u and 2/√π·exp(−u²).
///
/// u² is kept in two parts: rounded once it would cost 43 ulp at u = 9.3.
#[inline(always)]
pub(crate) fn erf_grad<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
    let (mut high, mut low) = (u, u);
    for i in 0..N {
        let a = u[i].abs().at_most(simd.splat(VANISHED));
        let upper = a.truncate_12();
        high[i] = -(upper * upper);
        low[i] = (upper - a) * (upper + a);
    }
    let parts = exp::split(simd, &high, Some(&low));
    // 2⁶⁴ times too large, so that only the last multiplication can underflow, and rounds once.
    let large = parts.power::<S, 64>(simd);
    let mut slope = high;
    for i in 0..N {
        let e = parts.p[i].mul_add(simd.splat(TWO_OVER_SQRT_PI), simd.splat(TWO_OVER_SQRT_PI));
        slope[i] = (e * large[i]) * simd.splat(1.0 / 1_8446_7440_7370_9551_616.0);
    }
    (erf(simd, u), slope)
}

/// erf u to within a quarter of an ulp of f16, for results that are stored in 16 bits.
#[inline(always)]
pub(crate) fn erf_narrow<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    if S::TABLES {
        return table::erf_narrow(simd, u);
    }
    erf(simd, u)
}
