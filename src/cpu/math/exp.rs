//! Powers of two.

use super::horner;
use super::tables::EXP2;
use crate::cpu::lanes::{Arithmetic, Lanes};

/// 2^w in three numbers, (s, sf, p): 2^w·[`UP`](crate::cpu::lanes::UP) = s − sf·p. s is a power of two, so that the difference of 2^w
/// and 1 keeps its relative accuracy near w = 0. w is at most 0.
#[inline(always)]
pub(super) fn exp2<V: Arithmetic>(w: Lanes<V>) -> (Lanes<V>, Lanes<V>, Lanes<V>) {
    let (s, f) = w.exp2_parts();
    (s, s * f, horner(&EXP2, f))
}
