//! The statistics of a line, by one pass about an origin near the mean (Chan, Golub, LeVeque 1983).
//!
//! With the origin m, d = x − m and c = Σd/cols: mean = m + c, variance = Σd²/cols − c². The difference loses less than a
//! bit as long as c² is at most a quarter of the variance. For most lines the average of a few values is as near as
//! that; the others are read once more, about m + c. In the end m becomes the mean, rounded, and c what rounding took
//! from it, so that the centred values are (x − m) − c.

use super::lines::{Address, Lines};
use crate::cpu::each::{each, repeat};
use crate::cpu::io::Extent;
use crate::cpu::simd::{Lanes, Simd};
use crate::cpu::stored::Stored;
use crate::cpu::sum::{Terms, two_sum};
use crate::{Problem, Std};

/// The part of the variance that the square of an origin's distance from the mean may be. At a quarter the variance is
/// off by less than 2.5 times the rounding error of the sums, and the average of 32 normal values is farther off once in
/// two hundred lines.
const NEAR: f32 = 0.25;

/// The rstd from which on squares are too small for f32: those of a line with a mean square of 2⁻¹⁰⁰ still have more
/// digits above the smallest f32 than a sum keeps.
const SMALL: f32 = (1_u64 << 50) as f32;

/// How far the lines of each lane stray from what f32 holds the squares of: `rstd`, made of their sums, but infinity where
/// it is 0 or NaN, because a sum overflows.
#[inline(always)]
pub(super) fn reach<S: Simd>(simd: S, rstd: S::F) -> S::F {
    S::F::select(simd.splat(0.0).lt(rstd), rstd, simd.splat(f32::INFINITY))
}

/// Whether one of the lines that reach so far has squares that f32 may not hold.
#[inline(always)]
pub(super) fn strays<S: Simd, const N: usize>(simd: S, reach: [S::F; N]) -> bool {
    let mut farthest = simd.splat(0.0);
    each!(i < N, {
        farthest = reach[i].at_least(farthest);
    });
    S::F::any(simd.splat(SMALL).lt(farthest))
}

/// What turns sums into statistics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    cols: f32,
    /// cols − 1 in the unbiased form, 1 in the other, for which nothing may be divided by 0 either: compilers work out
    /// both sides of a choice.
    freedom: f32,
    eps: f32,
    unbiased: bool,
}

impl Norm {
    pub(super) fn new(problem: &Problem) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "off by 2⁻²⁴ of itself at most")]
        let cols = problem.cols() as f32;
        let unbiased = problem.std() == Std::Unbiased;
        Self { cols, freedom: if unbiased { cols - 1.0 } else { 1.0 }, eps: problem.eps(), unbiased }
    }

    /// `sum` over cols.
    #[inline(always)]
    pub(super) fn average<S: Simd>(&self, simd: S, sum: S::F) -> S::F {
        sum / simd.splat(self.cols)
    }

    /// The biased variance from Σd² and c; rounding may not take it below 0.
    #[inline(always)]
    fn variance<S: Simd>(&self, simd: S, squares: S::F, c: S::F) -> S::F {
        (self.average(simd, squares) - c * c).at_least(simd.splat(0.0))
    }

    /// The unbiased standard deviation from the biased variance.
    #[inline(always)]
    fn unbiased_std<S: Simd>(&self, simd: S, variance: S::F) -> S::F {
        (variance * simd.splat(self.cols / self.freedom)).sqrt()
    }

    /// rstd from the biased variance.
    #[inline(always)]
    pub(super) fn rstd<S: Simd>(&self, simd: S, variance: S::F) -> S::F {
        let eps = simd.splat(self.eps);
        let root =
            if self.unbiased { self.unbiased_std(simd, variance) + eps } else { (variance + eps).sqrt() };
        simd.splat(1.0) / root
    }

    /// The factor of x̂ in dx/rstd from Σh·x̂: its mean; for the unbiased form Σh·x̂ / ((cols − 1)·std·rstd), and 0
    /// where std is 0, as its derivative counts as 0 there.
    #[inline(always)]
    pub(super) fn projection<S: Simd>(&self, simd: S, dot: S::F, variance: S::F, rstd: S::F) -> S::F {
        if !self.unbiased {
            return self.average(simd, dot);
        }
        let std = self.unbiased_std(simd, variance);
        let positive = simd.splat(0.0).lt(std);
        // Where std is 0 every x̂ is 0 too. It is no divisor there: 0/0 would raise the flag of an invalid operation.
        let divisor = S::F::select(positive, simd.splat(self.freedom) * (std * rstd), simd.splat(1.0));
        S::F::select(positive, dot / divisor, std)
    }

    /// std and rstd from the biased variance of a line of `cols` values.
    pub(super) fn exact(&self, variance: f64, cols: usize) -> (f64, f64) {
        let eps = f64::from(self.eps);
        if self.unbiased {
            let std = (variance * (cols as f64 / (cols as f64 - 1.0))).sqrt();
            (std, 1.0 / (std + eps))
        } else {
            (variance.sqrt(), 1.0 / (variance + eps).sqrt())
        }
    }

    /// As [`Self::projection`], from std and rstd as [`Self::exact`] has them.
    pub(super) fn exact_projection(&self, dot: f64, cols: usize, std: f64, rstd: f64) -> f64 {
        if !self.unbiased {
            dot / cols as f64
        } else if std == 0.0 {
            0.0
        } else {
            dot / ((cols as f64 - 1.0) * std * rstd)
        }
    }
}

/// The statistics of `N` vectors of lines, before eps joins.
#[derive(Clone, Copy)]
pub(super) struct Moments<F, const N: usize> {
    /// The mean of the deviations; 0 for RMSNorm.
    pub(super) c: [F; N],
    /// The biased variance; the mean square for RMSNorm.
    pub(super) variance: [F; N],
}

impl<F: Lanes, const N: usize> Moments<F, N> {
    /// From Σd and Σd².
    #[inline(always)]
    pub(super) fn new<S: Simd<F = F>>(simd: S, norm: &Norm, sums: [F; N], squares: [F; N]) -> Self {
        let (mut c, mut variance) = (sums, squares);
        each!(i < N, {
            c[i] = norm.average(simd, sums[i]);
            variance[i] = norm.variance(simd, squares[i], c[i]);
        });
        Self { c, variance }
    }

    /// Moves each origin that is too far off to the mean as these moments have it; whether there was one. The others
    /// stay, so that a line has the same bits whichever lines lie beside it.
    #[inline(always)]
    fn approach<S: Simd<F = F>>(&self, simd: S, m: &mut [F; N]) -> bool {
        let (zero, one) = (simd.splat(0.0), simd.splat(1.0));
        let mut far = zero;
        each!(i < N, {
            let (c, variance) = (self.c[i], self.variance[i]);
            let cancels = (variance * simd.splat(NEAR)).lt(c * c);
            // Squares about the mean may have a sum where those about the origin overflow.
            let finite = variance.lt(simd.splat(f32::INFINITY));
            let moves = F::select(finite, F::select(cancels, one, zero), one);
            m[i] = F::select(zero.lt(moves), m[i] + c, m[i]);
            far = far + moves;
        });
        far.sum() > 0.0
    }

    /// Makes the mean, rounded, the origin; c is then exactly what rounding took from it.
    #[inline(always)]
    fn settle(&mut self, m: &mut [F; N]) {
        each!(i < N, {
            (m[i], self.c[i]) = two_sum(m[i], self.c[i]);
        });
    }
}

/// The rounded mean of each line, 0 for RMSNorm, with what rounding took from it and the variance; `m` is a guess of it.
///
/// # Safety
/// The lines at `x` lie in the tensor.
#[inline(always)]
pub(super) unsafe fn statistics<S: Simd, T: Stored, L: Lines<S, N>, const N: usize, const CENTER: bool>(
    simd: S,
    norm: &Norm,
    lines: L,
    x: *const T,
    mut m: [S::F; N],
) -> ([S::F; N], Moments<S::F, N>) {
    let mut again = false;
    // A loop, so that the pass is compiled once.
    let mut found = loop {
        // SAFETY: the caller's promise.
        let found = unsafe { moments::<S, T, L, N, CENTER>(simd, norm, lines, x, m) };
        if !CENTER {
            return (m, found);
        }
        if again || !found.approach(simd, &mut m) {
            break found;
        }
        again = true;
    };
    found.settle(&mut m);
    (m, found)
}

/// A guess of the mean of each line; 0 for RMSNorm.
///
/// # Safety
/// The lines at `x` lie in the tensor.
#[inline(always)]
pub(super) unsafe fn guess<S: Simd, T: Stored, L: Lines<S, N>, const N: usize, const CENTER: bool>(
    simd: S,
    lines: L,
    x: *const T,
) -> [S::F; N] {
    // SAFETY: the caller's promise.
    if CENTER { unsafe { lines.sample(simd, x) } } else { repeat(simd.splat(0.0)) }
}

/// The statistics about the origin `m`.
///
/// # Safety
/// The lines at `x` lie in the tensor.
#[inline(always)]
pub(super) unsafe fn moments<S: Simd, T: Stored, L: Lines<S, N>, const N: usize, const CENTER: bool>(
    simd: S,
    norm: &Norm,
    lines: L,
    x: *const T,
    m: [S::F; N],
) -> Moments<S::F, N> {
    let terms = Deviations::<_, _, _, N, CENTER> { x, address: lines.address(), m: &m };
    // SAFETY: the caller's promise.
    let [sums, squares] = unsafe { lines.sums(simd, &terms) };
    Moments::new(simd, norm, sums, squares)
}

/// Value `i` of those for each vector, or the one for all.
#[inline(always)]
pub(super) fn of<F: Copy, const N: usize>(values: &[F; N], i: usize) -> F {
    values[if N == 1 { 0 } else { i }]
}

/// Σd and Σd² with d = x − m; Σx² alone if not `CENTER`.
struct Deviations<'a, T, A, F, const M: usize, const CENTER: bool> {
    x: *const T,
    address: A,
    m: &'a [F; M],
}

impl<S: Simd, T: Stored, A: Address, const M: usize, const CENTER: bool> Terms<S, 2>
    for Deviations<'_, T, A, S::F, M, CENTER>
{
    #[inline(always)]
    unsafe fn add<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize, sums: &mut [[S::F; N]; 2]) {
        let [sum, squares] = sums;
        each!(i < N, {
            // SAFETY: the caller's promise.
            let p = unsafe { self.x.add(self.address.offset(c, i, S::LANES)) };
            self.address.prefetch(simd, p);
            // SAFETY: the caller's promise.
            let mut d = unsafe { extent.load(simd, p) };
            if CENTER {
                d = d - of(self.m, i);
                sum[i] = sum[i] + d;
            }
            squares[i] = d.mul_add(d, squares[i]);
        });
    }
}
