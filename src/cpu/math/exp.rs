//! Powers of two.

use super::horner;
use super::tables::EXP2;
use crate::cpu::lanes::{Lanes, Register};

/// 2^w in two parts, both multiplied by [`Register::UP`]: a power of two s and s·(2^f − 1), so that the difference of 2^w
/// and 1 keeps its relative accuracy near w = 0. w is at most 0.
#[inline(always)]
pub(super) fn exp2<R: Register>(w: Lanes<R>) -> (Lanes<R>, Lanes<R>) {
    let (s, f) = w.exp2_parts();
    (s, s * (f * horner(&EXP2, f)))
}
