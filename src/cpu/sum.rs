//! Sums of many terms: few plain additions, folded with the rounding error of each fold kept.

use core::ops::{Add, Sub};

use super::lanes::{Arithmetic, Lanes, Register};

/// a + b, rounded, and exactly what rounding took from it (Knuth's two-sum).
#[inline(always)]
pub(crate) fn two_sum<F: Copy + Add<Output = F> + Sub<Output = F>>(a: F, b: F) -> (F, F) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// A running sum, or one for each lane, with what rounding took from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compensated<F> {
    high: F,
    low: F,
}

impl<F: Copy + Add<Output = F> + Sub<Output = F>> Compensated<F> {
    #[inline(always)]
    pub(crate) const fn new(zero: F) -> Self {
        Self { high: zero, low: zero }
    }

    /// Adds `term`; the error of the addition is gathered apart.
    #[inline(always)]
    pub(crate) fn add(&mut self, term: F) {
        let (sum, error) = two_sum(self.high, term);
        self.high = sum;
        self.low = self.low + error;
    }
}

impl Compensated<f32> {
    /// Nothing.
    pub(crate) const ZERO: Self = Self::new(0.0);

    /// The sum. Where it is not finite, the high part alone tells.
    #[inline(always)]
    pub(crate) fn total(self) -> f32 {
        if self.high.is_finite() { self.high + self.low } else { self.high }
    }
}

impl<R: Register> Compensated<Lanes<R>> {
    /// The sum of each lane.
    #[inline(always)]
    pub(crate) fn lanes(self) -> Lanes<R> {
        // The difference is 0 for a finite sum, and NaN for all others.
        #[expect(clippy::eq_op, reason = "∞ − ∞ is not 0")]
        let difference = self.high - self.high;
        difference.if_less(Lanes::splat(1.0), self.high + self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounding_takes_is_kept() {
        let mut sum = Compensated::ZERO;
        for _ in 0..10_007 {
            sum.add(0.1);
        }
        let exact = 10_007.0 * f64::from(0.1_f32);
        assert!((f64::from(sum.total()) - exact).abs() <= exact * f64::from(f32::EPSILON));
        sum.add(f32::INFINITY);
        assert!(sum.total().is_infinite());
    }
}
