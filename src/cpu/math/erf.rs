//! erf and its derivative.

use super::tables::{ERF_8, ERF_16, ERF_BF16_16, ERF_F16_8, ERF_F16_16, LOG_ERFC, SLOPE_8, SLOPE_16};
use super::{exp, horner, signed, table};
use crate::cpu::each::each;
use crate::cpu::simd::{Lanes, Simd};

/// From here on erf rounds to 1.
const SATURATED: f32 = 3.95;
/// From here on erf′ rounds to 0.
const VANISHED: f32 = 10.25;
/// 2/√π.
const TWO_OVER_SQRT_PI: f32 = core::f32::consts::FRAC_2_SQRT_PI;

/// erf u, at most 2 ulp off for every finite u.
///
/// Register tables where the level has them; else
///
/// ```text
/// erf a = 1 − e^(−y),  y = −ln(1 − erf a) = a + a L(a)
/// ```
#[inline(always)]
pub(crate) fn erf<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    let y = match S::ENTRIES {
        16 => table::centred::<_, _, _, _, true>(simd, &u, &ERF_16),
        8 => table::centred::<_, _, _, _, true>(simd, &u, &ERF_8),
        _ => {
            let mut a = u;
            each!(i < N, {
                a[i] = u[i].abs().at_most(simd.splat(SATURATED));
            });
            let (mut y, mut rest) = (horner(simd, &LOG_ERFC, &a), a);
            each!(i < N, {
                // a itself is exact in the sum, so that the error of 2/√π counts little.
                let more = a[i] * y[i];
                y[i] = a[i] + more;
                rest[i] = more - (y[i] - a[i]);
            });
            exp::one_minus_exp(simd, &y, &rest)
        }
    };
    signed(y, &u)
}

/// erf u and 2/√π·exp(−u²).
#[inline(always)]
pub(crate) fn erf_grad<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
    let (high, low) = square(simd, &u);
    let mut slope = match S::ENTRIES {
        16 => exp::by_table(simd, &high, Some(&low), &SLOPE_16),
        8 => exp::by_table(simd, &high, Some(&low), &SLOPE_8),
        _ => {
            let (mut large, r) = exp::reduce::<S, N, 64>(simd, &high, Some(&low));
            let p = exp::expm1(simd, &r);
            each!(i < N, {
                let e = p[i].mul_add(simd.splat(TWO_OVER_SQRT_PI), simd.splat(TWO_OVER_SQRT_PI));
                large[i] = e * large[i];
            });
            large
        }
    };
    each!(i < N, {
        slope[i] = slope[i] * simd.splat(1.0 / exp::LARGE);
    });
    (erf(simd, u), slope)
}

/// u² up to `VANISHED`², in two parts: rounded once it would cost 43 ulp of exp(−u²) at u = 9.3.
#[inline(always)]
fn square<S: Simd, const N: usize>(simd: S, u: &[S::F; N]) -> ([S::F; N], [S::F; N]) {
    let (mut high, mut low) = (*u, *u);
    each!(i < N, {
        let a = u[i].abs().at_most(simd.splat(VANISHED));
        if S::FUSED {
            high[i] = a * a;
            low[i] = a.mul_add(a, -high[i]);
        } else {
            let upper = a.truncate_12();
            high[i] = upper * upper;
            low[i] = (a - upper) * (a + upper);
        }
    });
    (high, low)
}

/// erf u to within a quarter of an ulp of f16.
#[inline(always)]
pub(crate) fn erf_f16<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    match S::ENTRIES {
        16 => signed(table::plain(simd, &u, &ERF_F16_16), &u),
        8 => signed(table::plain(simd, &u, &ERF_F16_8), &u),
        _ => erf(simd, u),
    }
}

/// erf u to within a quarter of an ulp of bf16.
#[inline(always)]
pub(crate) fn erf_bf16<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> [S::F; N] {
    match S::ENTRIES {
        16 => signed(table::plain(simd, &u, &ERF_BF16_16), &u),
        _ => erf_f16(simd, u),
    }
}
