//! tanh and erf of a vector, with their derivatives. A lane's result depends on that lane's input alone.
//!
//! Methods, domains and measured errors are in `docs/math.md`; the coefficients come from `docs/fit`.

mod erf;
mod exp;
mod pieces;
#[expect(clippy::approx_constant, reason = "a fitted coefficient may come near one")]
#[rustfmt::skip]
mod tables;
mod tanh;

pub(crate) use erf::Erf;
pub(crate) use tanh::Tanh;

use super::lanes::{Arithmetic, Lanes, Register};
use super::stored::Stored;

/// A function f of the pointwise family, with its scalars: u = alpha·x, or alpha·x + shift.
pub(crate) trait Curve: Copy {
    /// Whether u has a shift.
    const SHIFTS: bool;
    /// Whether kernels take such an alpha: with others, tables scaled by it would leave the range of f32.
    fn is_usual(alpha: f32) -> bool;
    /// −1 or 1: what [`Self::value_and_slope`] leaves to the caller, who has it for whole sums.
    fn sign_of(alpha: f32) -> f32;
    /// The function for results that are stored as T.
    fn new<R: Register, T: Stored>(alpha: f32, shift: f32) -> Self;
    /// f(u) to 2 ulp of f32, or a quarter ulp of f16 or bf16.
    fn value<V: Arithmetic, T: Stored>(&self, x: Lanes<V>) -> Lanes<V>;
    /// f(u), but for [`Self::sign_of`] alpha, and f′(u).
    fn value_and_slope<V: Arithmetic>(&self, x: Lanes<V>) -> (Lanes<V>, Lanes<V>);
}

/// The polynomial with coefficients `c`, lowest first.
#[inline(always)]
fn horner<V: Arithmetic, const D: usize>(c: &[f32; D], x: Lanes<V>) -> Lanes<V> {
    let mut y = Lanes::splat(c[D - 1]);
    for k in (0..D - 1).rev() {
        y = y.mul_add(x, Lanes::splat(c[k]));
    }
    y
}
