//! e^(−y) in parts: y = −(n·ln 2 + r), the power of two apart from the polynomial in r.

use super::horner;
use super::tables::{EXPM1, Exp};
use crate::cpu::each::each;
use crate::cpu::simd::{Lanes, Simd};

/// 1.5·2²³: added to a number near an integer n below 2²², it leaves n in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 to 15 bits, so that its product with any |n| < 2⁹ is exact: for levels without fused multiply-add.
const LN2_HI: f32 = 0.693_145_75;
/// ln 2 − `LN2_HI`.
const LN2_LO: f32 = 1.428_606_8e-6;
/// ln 2 − its value in f32: for levels with fused multiply-add.
const LN2_REST: f32 = -1.904_654_3e-9;
/// 2⁶⁴: what is made so much too large, only its last multiplication can underflow, and rounds once.
pub(super) const LARGE: f32 = 18_446_744_073_709_551_616.0;

/// 2^(n + UP) and r, |r| ≤ ln 2 / 2, so that y = r − n·ln 2 for y = `high` + `low`.
///
/// 0 ≤ y < 2⁷ and |`low`| < 1/8. Without fused multiply-add, `high` is 0 or large beside 2⁻²⁴·ln 2.
#[inline(always)]
pub(super) fn reduce<S: Simd, const N: usize, const UP: u8>(
    simd: S,
    high: &[S::F; N],
    low: Option<&[S::F; N]>,
) -> ([S::F; N], [S::F; N]) {
    let (log2_e, round) = (simd.splat(-core::f32::consts::LOG2_E), simd.splat(ROUND + 127.0 + f32::from(UP)));
    let (ln2_hi, ln2_lo) = (simd.splat(LN2_HI), simd.splat(LN2_LO));
    let (mut scale, mut r) = (*high, *high);
    each!(i < N, {
        let y = low.map_or(high[i], |low| high[i] + low[i]);
        // The biased exponent n + UP + 127 in the low bits.
        let biased = y.mul_add(log2_e, round);
        scale[i] = biased.shift_left(23);
        let n = biased - round;
        // Exact, because the two nearly cancel.
        let first = n.mul_add(ln2_hi, high[i]);
        r[i] = n.mul_add(ln2_lo, low.map_or(first, |low| first + low[i]));
    });
    (scale, r)
}

/// e^(−r) − 1 for |r| ≤ ln 2 / 2.
#[inline(always)]
pub(super) fn expm1<S: Simd, const N: usize>(simd: S, r: &[S::F; N]) -> [S::F; N] {
    let mut p = horner(simd, &EXPM1, r);
    each!(i < N, {
        p[i] = (r[i] * r[i]).mul_add(p[i], -r[i]);
    });
    p
}

/// 1 − e^(−y) of y = `high` + `low` from 0 to 80, with relative accuracy near 0; `low` is what rounding took from
/// `high`.
#[inline(always)]
pub(super) fn one_minus_exp<S: Simd, const N: usize>(
    simd: S,
    high: &[S::F; N],
    low: &[S::F; N],
) -> [S::F; N] {
    let (scale, r) = reduce::<S, N, 0>(simd, high, None);
    let mut y = horner(simd, &EXPM1, &r);
    each!(i < N, {
        let p = (r[i] * r[i]).mul_add(y[i], -low[i]) - r[i];
        y[i] = (simd.splat(1.0) - scale[i]) - scale[i] * p;
    });
    y
}

/// factor·2⁶⁴·e^(−y) of y = `high` + `low` by a table of 2^(k/E), for levels with fused multiply-add.
///
/// 0 ≤ y < 2⁷.
#[inline(always)]
pub(super) fn by_table<S: Simd, const N: usize, const E: usize>(
    simd: S,
    high: &[S::F; N],
    low: Option<&[S::F; N]>,
    exp: &Exp<E>,
) -> [S::F; N] {
    let steps = E as f32;
    let (per_step, round) = (simd.splat(-steps * core::f32::consts::LOG2_E), simd.splat(ROUND));
    let (step, step_rest) = (simd.splat(core::f32::consts::LN_2 / steps), simd.splat(LN2_REST / steps));
    let (mut key, mut r) = (*high, *high);
    each!(i < N, {
        key[i] = high[i].mul_add(per_step, round);
        let n = key[i] - round;
        let first = n.mul_add(step, high[i]);
        r[i] = match low {
            Some(low) => first + n.mul_add(step_rest, low[i]),
            None => n.mul_add(step_rest, first),
        };
    });
    let q = horner(simd, &exp.q, &r);
    let mut y = r;
    each!(i < N, {
        // n = E·m + k: the entry of k is less by k·2²³/E, which the shifted n brings along with m.
        let scale =
            simd.lookup(&exp.powers, key[i]).add_bits(key[i].shift_left(if E == 16 { 19 } else { 20 }));
        y[i] = scale.mul_add(q[i] * r[i], scale);
    });
    y
}
