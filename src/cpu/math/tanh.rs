//! tanh and its derivative.

use core::f32::consts::LOG2_E;

use super::exp::exp2;
use super::pieces::Pieces;
use super::tables::{TANH_8, TANH_32, TANH_BF16_32, TANH_F16_8, TANH_F16_32, TANH_NEAR};
use super::{Curve, horner};
use crate::DType;
use crate::cpu::lanes::{Arithmetic, Lanes, Register, UP};
use crate::cpu::stored::Stored;

/// From here on tanh is more than 1/2, so that 1 − (1 − tanh) loses nothing.
const NEAR_END: f32 = 0.65;

/// Where |alpha| and its cube, which coefficients are multiplied by, have room in f32: from 2⁻³⁶ to 2³⁶.
const USUAL: core::ops::RangeInclusive<f32> =
    f32::from_bits((127 - 36) << 23)..=f32::from_bits((127 + 36) << 23);

/// f = tanh, u = alpha·x: DyT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tanh {
    /// |alpha|.
    scale: f32,
    /// −2·|alpha|/ln 2.
    factor: f32,
    /// Of alpha; the pieces have it in their coefficients.
    sign: f32,
    pieces: Pieces,
}

impl Curve for Tanh {
    const SHIFTS: bool = false;

    fn is_usual(alpha: f32) -> bool {
        alpha == 0.0 || USUAL.contains(&alpha.abs())
    }

    #[inline(always)]
    fn sign_of(alpha: f32) -> f32 {
        if alpha < 0.0 { -1.0 } else { 1.0 }
    }

    #[inline(always)]
    fn new<R: Register, T: Stored>(alpha: f32, _: f32) -> Self {
        let scale = alpha.abs();
        let pieces = match (R::ENTRIES, T::DTYPE) {
            (32, DType::F32) => Pieces::centred::<R, _, _>(&TANH_32, scale),
            (32, DType::F16) => Pieces::plain::<R, _, _>(&TANH_F16_32, scale),
            (32, DType::Bf16) => Pieces::plain::<R, _, _>(&TANH_BF16_32, scale),
            (8, DType::F32) => Pieces::centred::<R, _, _>(&TANH_8, scale),
            (8, _) => Pieces::plain::<R, _, _>(&TANH_F16_8, scale),
            _ => Pieces::NONE,
        };
        let sign = Self::sign_of(alpha);
        // Rounded once: the argument of the exponential has the rounding of one more product.
        let factor = (f64::from(scale) * (-2.0 * core::f64::consts::LOG2_E)) as f32;
        Self { scale, factor, sign, pieces: pieces.negated::<R>(alpha < 0.0, T::DTYPE == DType::F32) }
    }

    #[inline(always)]
    fn value<V: Arithmetic, T: Stored>(&self, x: Lanes<V>) -> Lanes<V> {
        let a = x.abs();
        let t = match (V::ENTRIES, T::DTYPE) {
            (32, DType::F32) => self.pieces.about_centre::<V, 6, false>(a),
            (32, DType::F16) => self.pieces.of::<V, 3>(a),
            (32, DType::Bf16) => self.pieces.of::<V, 2>(a),
            (8, DType::F32) => self.pieces.about_centre::<V, 9, false>(a),
            (8, _) => self.pieces.of::<V, 4>(a),
            (_, DType::F32) => near_or_far(a * Lanes::splat(self.scale)) * Lanes::splat(self.sign),
            _ => self.parts(a).0 * Lanes::splat(self.sign),
        };
        t.times_sign(x)
    }

    #[inline(always)]
    fn value_and_slope<V: Arithmetic>(&self, x: Lanes<V>) -> (Lanes<V>, Lanes<V>) {
        let (t, minus_e, q) = self.parts(x.abs());
        // 4·UP·e/(UP + e)². Only the last product can leave the normal numbers: a subnormal slope is rounded once.
        (t.times_sign(x), (minus_e * Lanes::splat(-4.0 * UP) * q) * q)
    }
}

impl Tanh {
    /// tanh a, −e and 1/([`UP`] + e) with e = [`UP`]·e^(−2a), for a = scale·x:
    ///
    /// ```text
    /// tanh a = (UP − e)/(UP + e)
    /// ```
    ///
    /// with UP − e from the parts of e, so that tanh keeps its relative accuracy near 0.
    #[inline(always)]
    fn parts<V: Arithmetic>(&self, x: Lanes<V>) -> (Lanes<V>, Lanes<V>, Lanes<V>) {
        let (s, sf, p) = exp2(x * Lanes::splat(self.factor));
        let less = sf.mul_add(p, Lanes::splat(UP) - s);
        let q = (Lanes::splat(2.0 * UP) - less).reciprocal();
        (less * q, sf.mul_sub(p, s), q)
    }
}

/// tanh a, a ≥ 0, for levels without tables:
///
/// ```text
/// a + a³ P(a²) below `NEAR_END`, 1 − 2e/(1 + e) with e = e^(−2a) from there on
/// ```
#[inline(always)]
fn near_or_far<V: Arithmetic>(a: Lanes<V>) -> Lanes<V> {
    let square = a * a;
    let near = (a * square).mul_add(horner(&TANH_NEAR, square), a);
    let (s, sf, p) = exp2(a * Lanes::splat(-2.0 * LOG2_E));
    let minus_e = sf.mul_sub(p, s);
    let far = Lanes::splat(1.0) + (minus_e + minus_e) / (Lanes::splat(UP) - minus_e);
    a.if_less(Lanes::splat(NEAR_END), near, far)
}
