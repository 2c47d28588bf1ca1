//! eˣ and eˣ − 1 in parts: x = n·ln 2 + r, the power of two apart from the polynomial in r.

use super::horner;
use crate::cpu::simd::{Lanes, Simd};

/// 1.5·2²³ + 127: added to a number near n it leaves n + 127, a biased exponent, in the low bits.
const ROUND_BIASED: f32 = 12_582_912.0 + 127.0;
/// ln 2 to 15 bits, so that its product with any |n| < 2⁹ is exact.
const LN2_HI: f32 = 0.693_145_75;
/// ln 2 − `LN2_HI`.
const LN2_LO: f32 = 1.428_606_8e-6;
/// (eʳ − 1 − r)/r² for |r| ≤ ln 2 / 2; error of eʳ − 1 below 0.15 ulp. `docs/fit/fit.py expm1`.
const EXPM1: [f32; 5] = [0.49999997, 0.16666543, 0.0416672, 0.0083665214, 0.0013882522];

/// x split so that eˣ = 2ⁿ·(1 + p).
pub(super) struct Parts<F, const N: usize> {
    /// n + 127 in the low bits of each lane.
    biased: [F; N],
    /// eʳ − 1, |r| ≤ ln 2 / 2.
    pub(super) p: [F; N],
}

impl<F: Lanes, const N: usize> Parts<F, N> {
    /// 2^(n + UP), if that is a normal number.
    #[inline(always)]
    pub(super) fn power<S: Simd<F = F>, const UP: u8>(&self, simd: S) -> [F; N] {
        let mut scale = self.biased;
        for s in &mut scale {
            if UP != 0 {
                *s = *s + simd.splat(f32::from(UP));
            }
            *s = s.low_bits_to_exponent();
        }
        scale
    }
}

/// Splits `high` + `low`, where |`low`| is less than 1/8 and `high` is 0 or at least 2⁻¹⁰ where `low` is not 0.
///
/// |`high`| is less than 2⁷.
#[inline(always)]
pub(super) fn split<S: Simd, const N: usize>(
    simd: S,
    high: &[S::F; N],
    low: Option<&[S::F; N]>,
) -> Parts<S::F, N> {
    let (log2_e, round) = (simd.splat(core::f32::consts::LOG2_E), simd.splat(ROUND_BIASED));
    let (ln2_hi, ln2_lo) = (simd.splat(-LN2_HI), simd.splat(-LN2_LO));
    let mut biased = *high;
    let mut r = *high;
    for i in 0..N {
        let x = low.map_or(high[i], |low| high[i] + low[i]);
        biased[i] = x.mul_add(log2_e, round);
        let n = biased[i] - round;
        // Exact, since both lie on the grid of `high` and nearly cancel.
        let first = n.mul_add(ln2_hi, high[i]);
        r[i] = n.mul_add(ln2_lo, low.map_or(first, |low| first + low[i]));
    }
    let q = horner(simd, &EXPM1, &r);
    let mut p = r;
    for i in 0..N {
        p[i] = (r[i] * r[i]).mul_add(q[i], r[i]);
    }
    Parts { biased, p }
}

/// eˣ − 1 for x from -80 to 0, with relative accuracy near 0.
#[inline(always)]
pub(super) fn expm1<S: Simd, const N: usize>(simd: S, x: &[S::F; N]) -> [S::F; N] {
    let parts = split(simd, x, None);
    let scale = parts.power::<S, 0>(simd);
    let mut y = scale;
    for i in 0..N {
        y[i] = scale[i].mul_add(parts.p[i], scale[i] - simd.splat(1.0));
    }
    y
}
