//! The statistics of a row, by one pass about an origin near the mean (Chan, Golub, LeVeque 1983).
//!
//! With the origin m, d = x − m and c = Σd/cols: mean = m + c, variance = Σd²/cols − c². The difference loses less than a
//! bit as long as c² is at most a quarter of the variance. For most rows the average of a few values is as near as that;
//! the others are read once more, about m + c. In the end m becomes the mean, rounded, and c what rounding took from it, so
//! that the centred values are (x − m) − c.

use core::hint::black_box;
use core::ops::{Add, Div, Mul, Sub};

use crate::cpu::choices::{self, STEPS, Work};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stored::Stored;
use crate::cpu::sum::{Compensated, two_sum};
use crate::{Problem, Std};

/// The part of the variance that the square of an origin's distance from the mean may be. At a quarter the variance is
/// off by less than 2.5 times the rounding error of the sums, and the average of 32 normal values is farther off once in
/// two hundred rows.
const NEAR: f32 = 0.25;

/// The rstd from which on squares are too small for f32: those of a row with a mean square of 2⁻¹⁰⁰ still have more digits
/// above the smallest f32 than a sum keeps.
const SMALL: f32 = (1_u64 << 50) as f32;

/// Values of a row that its mean is guessed from, where it has as many.
pub(super) const SAMPLE: usize = 32;

/// The least number above [`SMALL`].
const ABOVE_SMALL: f32 = f32::from_bits(SMALL.to_bits() + 1);

/// The statistic of a row, or of a row in each lane.
pub(super) trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// `v`, in all lanes.
    fn of(v: f32) -> Self;
    /// √self.
    fn root(self) -> Self;
    /// `x` where self < b, else `y`; a comparison with NaN is false.
    fn choose(self, b: Self, x: Self, y: Self) -> Self;
}

impl Number for f32 {
    #[inline(always)]
    fn of(v: f32) -> Self {
        v
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn choose(self, b: Self, x: Self, y: Self) -> Self {
        if self < b { x } else { y }
    }
}

impl<R: Register> Number for Lanes<R> {
    #[inline(always)]
    fn of(v: f32) -> Self {
        Self::splat(v)
    }
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn choose(self, b: Self, x: Self, y: Self) -> Self {
        self.if_less(b, x, y)
    }
}

/// 1 where f32 may not hold the squares of a row of that rstd, made of their sums, else 0: rstd is 0 or NaN where a sum
/// overflows.
#[inline(always)]
pub(super) fn strays<F: Number>(rstd: F) -> F {
    let (zero, one) = (F::of(0.0), F::of(1.0));
    zero.choose(rstd, rstd.choose(F::of(ABOVE_SMALL), zero, one), one)
}

/// What turns sums into statistics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    cols: f32,
    /// cols − 1 in the unbiased form, 1 in the other.
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
    pub(super) fn average<F: Number>(&self, sum: F) -> F {
        sum / F::of(self.cols)
    }

    /// The mean of the deviations and the biased variance from Σd and Σd²; rounding may not take it below 0.
    #[inline(always)]
    pub(super) fn moments<F: Number>(&self, sum: F, squares: F) -> (F, F) {
        let (c, zero) = (self.average(sum), F::of(0.0));
        let variance = self.average(squares) - c * c;
        (c, variance.choose(zero, zero, variance))
    }

    /// The unbiased standard deviation from the biased variance.
    #[inline(always)]
    fn unbiased_std<F: Number>(&self, variance: F) -> F {
        (variance * F::of(self.cols / self.freedom)).root()
    }

    /// rstd from the biased variance.
    #[inline(always)]
    pub(super) fn rstd<F: Number>(&self, variance: F) -> F {
        let eps = F::of(self.eps);
        let root = if self.unbiased { self.unbiased_std(variance) + eps } else { (variance + eps).root() };
        F::of(1.0) / root
    }

    /// The factor of x̂ in dx/rstd from Σh·x̂: its mean; for the unbiased form Σh·x̂ / ((cols − 1)·std·rstd), and 0
    /// where std is 0, as its derivative counts as 0 there.
    #[inline(always)]
    pub(super) fn projection(&self, dot: f32, variance: f32, rstd: f32) -> f32 {
        if !self.unbiased {
            return self.average(dot);
        }
        let std = self.unbiased_std(variance);
        if std > 0.0 {
            // Opaque, so that the division stays on this side of the choice: 0/0 would raise the flag of an invalid
            // operation.
            dot / black_box(self.freedom * (std * rstd))
        } else {
            std
        }
    }

    /// std and rstd from the biased variance of a row of `cols` values.
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

/// The statistics of a row, or of one in each lane, before eps joins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments<F> {
    /// The mean, rounded; 0 for RMSNorm.
    pub(super) m: F,
    /// What rounding took from the mean.
    pub(super) c: F,
    /// The biased variance; the mean square for RMSNorm.
    pub(super) variance: F,
}

impl<F: Number> Moments<F> {
    /// About the origin `m`.
    #[inline(always)]
    pub(super) fn about(m: F) -> Self {
        Self { m, c: F::of(0.0), variance: F::of(0.0) }
    }

    /// 1 where the origin is too far from the mean, or overflowed sums hide how far it is, else 0.
    #[inline(always)]
    pub(super) fn far(&self) -> F {
        let (zero, one) = (F::of(0.0), F::of(1.0));
        let apart = (F::of(NEAR) * self.variance).choose(self.c * self.c, one, zero);
        self.variance.choose(F::of(f32::INFINITY), apart, one)
    }

    /// Makes the mean, rounded, the origin; c is then exactly what rounding took from it.
    #[inline(always)]
    pub(super) fn settle(&mut self) {
        (self.m, self.c) = two_sum(self.m, self.c);
    }
}

/// The statistics of `N` rows of `cols` columns.
pub(super) struct Statistics<T, const N: usize, const CENTER: bool> {
    pub(super) x: Rows<T>,
    pub(super) cols: usize,
    pub(super) norm: Norm,
}

impl<T: Stored, const N: usize, const CENTER: bool> Kernel for Statistics<T, N, CENTER> {
    type Output = [Moments<f32>; N];

    #[inline(always)]
    unsafe fn run<R: Register>(self) -> [Moments<f32>; N] {
        let mut found = [Moments::about(0.0); N];
        if CENTER {
            let guess = self.guess::<R>();
            for r in 0..N {
                found[r].m = guess[r];
            }
        }
        let mut again = false;
        loop {
            let [sums, squares] = self.sums::<R>(&found);
            let mut far = false;
            for r in 0..N {
                (found[r].c, found[r].variance) = self.norm.moments(sums[r], squares[r]);
                far |= found[r].far() > 0.0;
            }
            if !CENTER {
                return found;
            }
            if again || !far {
                break;
            }
            // The others stay, so that a row has the same bits whichever rows lie beside it.
            for row in &mut found {
                if row.far() > 0.0 {
                    row.m += row.c;
                }
            }
            again = true;
        }
        for row in &mut found {
            row.settle();
        }
        found
    }
}

impl<T: Stored, const N: usize, const CENTER: bool> Statistics<T, N, CENTER> {
    /// The first value of each row and the average of what a few others differ from it: about the mean, and of equal values
    /// that value itself.
    #[inline(always)]
    fn guess<R: Register>(&self) -> [f32; N] {
        let few = self.cols.min(SAMPLE);
        let mut guess = [0.0; N];
        let mut sums = [Lanes::<R>::splat(0.0); 4];
        for r in 0..N {
            guess[r] = self.x.value(r, 0);
        }
        let columns = Columns::plain(0, few);
        for at in columns.whole::<R>() {
            for r in 0..N {
                sums[r] = sums[r] + (self.x.load::<R, true>(r, at) - Lanes::splat(guess[r]));
            }
        }
        for at in columns.ragged::<R>() {
            for r in 0..N {
                // The lanes behind the last column repeat another.
                let d = self.x.load::<R, false>(r, at) - Lanes::splat(guess[r]);
                sums[r] = sums[r] + d.keep(T::mask(at.n));
            }
        }
        let sums = Lanes::sums(sums);
        for r in 0..N {
            #[expect(clippy::cast_precision_loss, reason = "32 at the most")]
            let few = few as f32;
            guess[r] += sums[r] / few;
        }
        guess
    }

    /// Σd, for `CENTER` alone, and Σd², about the origins, in an order that follows from the number of columns.
    #[inline(always)]
    fn sums<R: Register>(&self, about: &[Moments<f32>; N]) -> [[f32; N]; 2] {
        let mut m = [Lanes::<R>::splat(0.0); N];
        for r in 0..N {
            m[r] = Lanes::splat(about[r].m);
        }
        let mut totals = [[Compensated::ZERO; N]; 2];
        let part = STEPS * Lanes::<R>::LANES;
        let mut c = 0;
        // Parts of a row that is alone go side by side as rows do elsewhere, so that its sums do not wait for themselves. Each
        // has the same tree and joins in the same order as beside other rows: the bits are the same.
        while N == 1 && const { Self::parts::<R>() == 4 } && self.cols - c >= 4 * part {
            self.add_parts::<R, 4>(&mut totals, m[0], c);
            c += 4 * part;
        }
        while N == 1 && const { Self::parts::<R>() == 2 } && self.cols - c >= 2 * part {
            self.add_parts::<R, 2>(&mut totals, m[0], c);
            c += 2 * part;
        }
        while c < self.cols {
            let columns = Columns::plain(c, self.cols.min(c + part));
            let sums = PlainSums::<T, CENTER> { x: self.x }.sums::<R, N>(&m, columns);
            for r in 0..N {
                totals[0][r].add(sums[0][r]);
                totals[1][r].add(sums[1][r]);
            }
            c = columns.end;
        }
        let mut results = [[0.0; N]; 2];
        for r in 0..N {
            results[0][r] = totals[0][r].total();
            results[1][r] = totals[1][r].total();
        }
        results
    }

    /// Parts of a lone row that go side by side: as many as rows elsewhere.
    const fn parts<R: Register>() -> usize {
        choices::rows::<R, T>(if CENTER { Work::Statistics } else { Work::Squares })
    }

    /// Adds `PARTS` parts from column `c` on to the totals of the first row, whose origin is `m`.
    #[inline(always)]
    fn add_parts<R: Register, const PARTS: usize>(
        &self,
        totals: &mut [[Compensated<f32>; N]; 2],
        m: Lanes<R>,
        c: usize,
    ) {
        let part = STEPS * Lanes::<R>::LANES;
        let parts = PlainSums::<T, CENTER> { x: self.x.shifted(c).with_stride(part) };
        let sums = parts.sums::<R, PARTS>(&[m; PARTS], Columns::plain(0, part));
        for r in 0..PARTS {
            totals[0][0].add(sums[0][r]);
            totals[1][0].add(sums[1][r]);
        }
    }
}

/// Sums over a range of columns that is short enough for plain additions.
struct PlainSums<T, const CENTER: bool> {
    x: Rows<T>,
}

impl<T: Stored, const CENTER: bool> PlainSums<T, CENTER> {
    /// Σd, 0 without `CENTER`, and Σd² of the first `N` rows, of four at most.
    #[inline(always)]
    fn sums<R: Register, const N: usize>(&self, m: &[Lanes<R>; N], columns: Columns) -> [[f32; 4]; 2] {
        let mut sums = [[Lanes::splat(0.0); 4]; 2];
        for at in columns.whole::<R>() {
            self.add::<R, N, true>(m, at, &mut sums);
        }
        for at in columns.ragged::<R>() {
            self.add::<R, N, false>(m, at, &mut sums);
        }
        let [sums, squares] = sums;
        [if CENTER { Lanes::sums(sums) } else { [0.0; 4] }, Lanes::sums(squares)]
    }

    #[inline(always)]
    fn add<R: Register, const N: usize, const WHOLE: bool>(
        &self,
        m: &[Lanes<R>; N],
        at: At,
        sums: &mut [[Lanes<R>; 4]; 2],
    ) {
        for r in 0..N {
            let mut d = self.x.load::<R, WHOLE>(r, at);
            if CENTER {
                d = d - m[r];
            }
            if !WHOLE {
                d = d.keep(T::mask(at.n));
            }
            if CENTER {
                sums[0][r] = sums[0][r] + d;
            }
            sums[1][r] = d.mul_add(d, sums[1][r]);
        }
    }
}
