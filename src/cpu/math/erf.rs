//! erf and its derivative.

use core::f32::consts::{FRAC_2_SQRT_PI, LOG2_E};

use super::exp::exp2;
use super::pieces::Pieces;
use super::tables::{ERF_8, ERF_32, ERF_BF16_32, ERF_F16_8, ERF_F16_32, ERF_NEAR, LOG2_ERFC};
use super::{Curve, horner};
use crate::DType;
use crate::cpu::lanes::{Arithmetic, Lanes, Register, UP};
use crate::cpu::stored::Stored;

/// From here on erf is more than 1/2, so that 1 − (1 − erf) loses nothing.
const NEAR_END: f32 = 0.6;
/// From here on erf rounds to 1.
const SATURATED: f32 = 3.95;

/// f = erf, u = alpha·x + shift: Derf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Erf {
    alpha: f32,
    shift: f32,
    pieces: Pieces,
}

impl Curve for Erf {
    const SHIFTS: bool = true;

    fn is_usual(_: f32) -> bool {
        true
    }

    #[inline(always)]
    fn sign_of(_: f32) -> f32 {
        1.0
    }

    #[inline(always)]
    fn new<R: Register, T: Stored>(alpha: f32, shift: f32) -> Self {
        let pieces = match (R::ENTRIES, T::DTYPE) {
            (32, DType::F32) => Pieces::centred::<R, _, _>(&ERF_32, 1.0),
            (32, DType::F16) => Pieces::plain::<R, _, _>(&ERF_F16_32, 1.0),
            (32, DType::Bf16) => Pieces::plain::<R, _, _>(&ERF_BF16_32, 1.0),
            (8, DType::F32) => Pieces::centred::<R, _, _>(&ERF_8, 1.0),
            (8, _) => Pieces::plain::<R, _, _>(&ERF_F16_8, 1.0),
            _ => Pieces::NONE,
        };
        Self { alpha, shift, pieces }
    }

    #[inline(always)]
    fn value<V: Arithmetic, T: Stored>(&self, x: Lanes<V>) -> Lanes<V> {
        let u = self.argument(x);
        let a = u.abs();
        let y = match (V::ENTRIES, T::DTYPE) {
            (32, DType::F16) => self.pieces.of::<V, 3>(a),
            (32, DType::Bf16) => self.pieces.of::<V, 2>(a),
            (8, DType::F16 | DType::Bf16) => self.pieces.of::<V, 4>(a),
            _ => self.fine(a),
        };
        y.times_sign(u)
    }

    #[inline(always)]
    fn value_and_slope<V: Arithmetic>(&self, x: Lanes<V>) -> (Lanes<V>, Lanes<V>) {
        let u = self.argument(x);
        let (s, sf, p) = exp2((u * u) * Lanes::splat(-LOG2_E));
        let slope = sf.mul_sub(p, s) * Lanes::splat(-FRAC_2_SQRT_PI / UP);
        (self.fine(u.abs()).times_sign(u), slope)
    }
}

impl Erf {
    /// u, rounded once.
    #[inline(always)]
    fn argument<V: Arithmetic>(&self, x: Lanes<V>) -> Lanes<V> {
        x.mul_add_exact(Lanes::splat(self.alpha), Lanes::splat(self.shift))
    }

    /// erf a, a ≥ 0, to 2 ulp: by [`Pieces`] for f32 where the level has tables, else
    ///
    /// ```text
    /// a + a P(a²) below `NEAR_END`, 1 − 2^L(a) with L = log₂(1 − erf a) from there on
    /// ```
    #[inline(always)]
    fn fine<V: Arithmetic>(&self, a: Lanes<V>) -> Lanes<V> {
        match V::ENTRIES {
            32 => self.pieces.about_centre::<V, 6, true>(a),
            8 => self.pieces.about_centre::<V, 9, true>(a),
            _ => {
                let square = a * a;
                let near = a.mul_add(horner(&ERF_NEAR, square), a);
                let (s, sf, p) = exp2(horner(&LOG2_ERFC, a.at_most(Lanes::splat(SATURATED))));
                let far = sf.mul_sub(p, s).mul_add(Lanes::splat(1.0 / UP), Lanes::splat(1.0));
                a.if_less(Lanes::splat(NEAR_END), near, far)
            }
        }
    }
}
