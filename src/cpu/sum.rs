//! Sums of many terms: blocks of few plain additions, folded with the rounding error of each fold kept.

use crate::cpu::each::{each, repeat};
use crate::cpu::io::{Extent, Full, Tail};
use crate::cpu::simd::{Lanes, Simd};

/// Plain additions to one accumulator before it is folded: the rounding errors of more would add up when all terms
/// are equal.
pub(crate) const STEPS: usize = 16;

/// a + b, rounded, and exactly what rounding took from it (Knuth's two-sum).
#[inline(always)]
pub(crate) fn two_sum<F: Lanes>(a: F, b: F) -> (F, F) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// A running sum, lane by lane, with what rounding took from it.
#[derive(Clone, Copy)]
pub(crate) struct Compensated<F> {
    high: F,
    low: F,
}

impl<F: Lanes> Compensated<F> {
    #[inline(always)]
    pub(crate) fn new(zero: F) -> Self {
        Self { high: zero, low: zero }
    }

    /// Adds `term`; the error of the addition is gathered apart.
    #[inline(always)]
    pub(crate) fn add(&mut self, term: F) {
        let (sum, error) = two_sum(self.high, term);
        self.high = sum;
        self.low = self.low + error;
    }

    /// The sum of each lane; `one` is 1 in all lanes. Where the sum is not finite, the high part alone tells.
    #[inline(always)]
    pub(crate) fn lanes(self, one: F) -> F {
        // The difference is 0 for a finite sum, and NaN for all others.
        #[expect(clippy::eq_op, reason = "∞ − ∞ is not 0")]
        let finite = (self.high - self.high).lt(one);
        F::select(finite, self.high + self.low, self.high)
    }

    /// The sum over all lanes.
    #[inline(always)]
    pub(crate) fn total(self) -> f32 {
        let high = self.high.sum();
        if high.is_finite() { high + self.low.sum() } else { high }
    }
}

/// The terms of `K` sums that one pass over a row gathers.
pub(crate) trait Terms<S: Simd, const K: usize> {
    /// Adds the terms of the `N` vectors that begin at column `c` to the accumulators of each vector.
    ///
    /// # Safety
    /// The columns from `c` to the end of the extent's `N` vectors lie in the row.
    unsafe fn add<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize, sums: &mut [[S::F; N]; K]);
}

/// The `K` sums over the columns from `begin` to `end`, in an order that depends on the number of columns alone.
///
/// # Safety
/// The columns lie in the row that `terms` reads.
#[inline(always)]
pub(crate) unsafe fn row_sums<S: Simd, const K: usize, M: Terms<S, K>>(
    simd: S,
    terms: &M,
    begin: usize,
    end: usize,
) -> [f32; K] {
    let mut totals: [_; K] = repeat(Compensated::new(simd.splat(0.0)));
    let mut c = begin;
    // As many accumulators as four sums leave registers for, whatever `K` is: a sum has the same bits whichever others
    // are gathered beside it.
    // SAFETY: every extent lies between `begin` and `end`.
    unsafe {
        if S::REGISTERS >= 32 {
            whole::<S, K, 4, M>(simd, terms, &mut c, end, &mut totals);
        } else if S::REGISTERS >= 16 {
            whole::<S, K, 2, M>(simd, terms, &mut c, end, &mut totals);
        }
        whole::<S, K, 1, M>(simd, terms, &mut c, end, &mut totals);
    }
    if c < end {
        let mut sums: [[S::F; 1]; K] = repeat(repeat(simd.splat(0.0)));
        let tail = Tail(end - c);
        // SAFETY: the rest of the row is what the tail covers.
        unsafe { terms.add(simd, tail, c, &mut sums) };
        each!(k < K, {
            totals[k].add(tail.keep(simd, sums[k][0]));
        });
    }
    let mut results = [0.0; K];
    each!(k < K, {
        results[k] = totals[k].total();
    });
    results
}

/// Adds the whole vectors from `c` on, `N` at a time, as long as there are so many before `end`.
///
/// # Safety
/// The columns lie in the row that `terms` reads.
#[inline(always)]
unsafe fn whole<S: Simd, const K: usize, const N: usize, M: Terms<S, K>>(
    simd: S,
    terms: &M,
    c: &mut usize,
    end: usize,
    totals: &mut [Compensated<S::F>; K],
) {
    while end - *c >= N * S::LANES {
        let mut sums: [[S::F; N]; K] = repeat(repeat(simd.splat(0.0)));
        let steps = ((end - *c) / (N * S::LANES)).min(STEPS);
        for _ in 0..steps {
            // SAFETY: at least N vectors lie before `end`.
            unsafe { terms.add(simd, Full, *c, &mut sums) };
            *c += N * S::LANES;
        }
        each!(k < K, {
            totals[k].add(tree(sums[k]));
        });
    }
}

/// The sum of one, two or four vectors.
#[inline(always)]
fn tree<F: Lanes, const N: usize>(sums: [F; N]) -> F {
    match N {
        4 => (sums[0] + sums[2]) + (sums[1] + sums[3]),
        2 => sums[0] + sums[1],
        _ => sums[0],
    }
}

/// The `K` sums of each lane of `N` vectors over the columns before `cols`, in an order that depends on their number
/// alone.
///
/// # Safety
/// The lanes and columns lie in what `terms` reads.
#[inline(always)]
pub(crate) unsafe fn lane_sums<S: Simd, E: Extent, const K: usize, const N: usize, M: Terms<S, K>>(
    simd: S,
    terms: &M,
    extent: E,
    cols: usize,
) -> [[S::F; N]; K] {
    let mut totals: [[_; N]; K] = repeat(repeat(Compensated::new(simd.splat(0.0))));
    let mut c = 0;
    while c < cols {
        let mut sums: [[S::F; N]; K] = repeat(repeat(simd.splat(0.0)));
        let end = cols.min(c + STEPS);
        while c < end {
            // SAFETY: a column before `cols`.
            unsafe { terms.add(simd, extent, c, &mut sums) };
            c += 1;
        }
        each!(k < K, {
            each!(i < N, {
                totals[k][i].add(sums[k][i]);
            });
        });
    }
    let mut results: [[S::F; N]; K] = repeat(repeat(simd.splat(0.0)));
    each!(k < K, {
        each!(i < N, {
            results[k][i] = totals[k][i].lanes(simd.splat(1.0));
        });
    });
    results
}
