//! The statistics of a row, by the corrected two-pass algorithm (Chan, Golub, LeVeque 1983).
//!
//! With m near the mean, d = x − m and c = Σd/cols: mean = m + c, variance = Σd²/cols − c², and the centred values
//! are d − c. What rounding m to f32 takes from it, c gives back.

use crate::cpu::io::Extent;
use crate::cpu::simd::{Lanes, Simd};
use crate::cpu::sum::Terms;
use crate::dtype::Element;
use crate::{Problem, Std};

/// What turns sums into statistics; all of it f32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    /// cols as f32.
    pub(super) cols: f32,
    eps: f32,
    unbiased: bool,
}

impl Norm {
    pub(super) fn new(problem: &Problem) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "off by 2⁻²⁴ of itself at most")]
        let cols = problem.cols() as f32;
        Self { cols, eps: problem.eps(), unbiased: problem.std() == Std::Unbiased }
    }

    /// The biased variance from Σd² and c; rounding may not take it below 0.
    #[inline(always)]
    pub(super) fn variance(&self, squares: f32, c: f32) -> f32 {
        let variance = squares / self.cols - c * c;
        if variance < 0.0 { 0.0 } else { variance }
    }

    /// The unbiased standard deviation from the biased variance.
    #[inline(always)]
    fn unbiased_std(&self, variance: f32) -> f32 {
        (variance * (self.cols / (self.cols - 1.0))).sqrt()
    }

    /// rstd from the biased variance.
    #[inline(always)]
    pub(super) fn rstd(&self, variance: f32) -> f32 {
        if self.unbiased {
            1.0 / (self.unbiased_std(variance) + self.eps)
        } else {
            1.0 / (variance + self.eps).sqrt()
        }
    }

    /// The factor of x̂ in dx from Σh·x̂: its mean; for the unbiased form Σh·x̂ / ((cols − 1)·std·rstd), and 0 where
    /// std is 0, as its derivative counts as 0 there.
    #[inline(always)]
    pub(super) fn projection(&self, dot: f32, variance: f32, rstd: f32) -> f32 {
        if !self.unbiased {
            return dot / self.cols;
        }
        let std = self.unbiased_std(variance);
        if std == 0.0 { 0.0 } else { dot / ((self.cols - 1.0) * (std * rstd)) }
    }
}

/// Where the elements of a line lie: `step` apart, so that a vector covers a row (step 1) or neighbouring runs.
#[derive(Clone, Copy)]
pub(super) struct Line<T> {
    pub(super) x: *const T,
    /// Elements from one column to the next: 1 along a row, S of channels-first data.
    pub(super) step: usize,
}

impl<T: Element> Line<T> {
    /// Vector `i` of those at column `c`.
    ///
    /// # Safety
    /// The extent lies in the line.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd, E: Extent>(&self, simd: S, extent: E, c: usize, i: usize) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { extent.load(simd, self.x.add(c * self.step + i * S::LANES)) }
    }
}

/// Σ(x − first): the first value as the origin makes the sum exact for equal values.
pub(super) struct Offsets<T, F> {
    pub(super) line: Line<T>,
    pub(super) first: F,
}

/// Σd and Σd² with d = x − m; Σx² alone if not `CENTER`.
pub(super) struct Deviations<'a, T, F, const N: usize, const CENTER: bool> {
    pub(super) line: Line<T>,
    /// m of each vector of a block; one for all where vectors lie along the row.
    pub(super) m: &'a [F; N],
}
