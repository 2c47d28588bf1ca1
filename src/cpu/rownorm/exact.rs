//! Lines whose squares f32 cannot hold, one by one and in f64, which holds the square of every f32.

use super::backward::Backward;
use super::forward::Forward;
use super::stats::Norm;
use crate::cpu::stored::Stored;

/// The values of one line, `step` elements apart.
#[derive(Clone, Copy)]
struct Line<T> {
    p: *const T,
    step: usize,
    cols: usize,
}

impl<T: Stored> Line<T> {
    /// # Safety
    /// The line lies in the tensor, and `c` in the line.
    unsafe fn at(self, c: usize) -> f64 {
        // SAFETY: the caller's promise.
        f64::from(unsafe { (*self.p.add(c * self.step)).widen() })
    }

    /// The mean of `term` of each value.
    ///
    /// # Safety
    /// The line lies in the tensor.
    unsafe fn mean(self, term: impl Fn(f64) -> f64) -> f64 {
        // SAFETY: the caller's promise.
        let sum: f64 = (0..self.cols).map(|c| term(unsafe { self.at(c) })).sum();
        sum / self.cols as f64
    }

    /// # Safety
    /// The line lies in the tensor.
    unsafe fn statistics<const CENTER: bool>(self, norm: &Norm) -> Statistics {
        // SAFETY: the caller's promise.
        unsafe {
            let mean = if CENTER { self.mean(|x| x) } else { 0.0 };
            let variance = self.mean(|x| (x - mean) * (x - mean));
            let (std, rstd) = norm.exact(variance, self.cols);
            Statistics { mean, std, rstd }
        }
    }
}

/// What a line is normalised by.
#[derive(Clone, Copy)]
struct Statistics {
    mean: f64,
    /// With cols − 1 in the unbiased form.
    std: f64,
    rstd: f64,
}

impl Statistics {
    fn x_hat(self, x: f64) -> f64 {
        (x - self.mean) * self.rstd
    }
}

impl<T: Stored, P: Stored, const CENTER: bool> Forward<T, P, CENTER> {
    /// The line that begins at element `at`; its statistics have index `index`.
    ///
    /// # Safety
    /// The line lies in the tensor.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn exact(&self, at: usize, index: usize) {
        // SAFETY: the caller's promise; parameters have a value a column; a value of x is read before y replaces it.
        unsafe {
            let x = Line { p: self.x.add(at), step: self.inner, cols: self.cols };
            let found = x.statistics::<CENTER>(&self.norm);
            if !self.mean.is_null() {
                *self.mean.add(index) = found.mean as f32;
            }
            if !self.rstd.is_null() {
                *self.rstd.add(index) = found.rstd as f32;
            }
            for c in 0..self.cols {
                let y = found.x_hat(x.at(c)) * self.gamma.at(c) + self.beta.at(c);
                *self.y.add(at + c * self.inner) = T::narrow(y as f32);
            }
        }
    }
}

impl<T: Stored, P: Stored, const CENTER: bool> Backward<T, P, CENTER> {
    /// The line that begins at element `at`; the sums begin with it if `first`. Saved statistics are not read: rstd may
    /// be beyond f32.
    ///
    /// # Safety
    /// The line lies in the tensor, and the sums have a value a column.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn exact(&self, at: usize, first: bool) {
        // SAFETY: the caller's promise; gamma has a value a column; a value of dy is read before dx replaces it.
        unsafe {
            let x = Line { p: self.x.add(at), step: self.inner, cols: self.cols };
            let dy = Line { p: self.dy.add(at), ..x };
            let found = x.statistics::<CENTER>(&self.norm);
            let h = |c: usize| dy.at(c) * self.gamma.at(c);
            let (mut sum, mut dot) = (0.0, 0.0);
            for c in 0..self.cols {
                sum += h(c);
                dot += h(c) * found.x_hat(x.at(c));
            }
            let mean = if CENTER { sum / self.cols as f64 } else { 0.0 };
            let along = self.norm.exact_projection(dot, self.cols, found.std, found.rstd);
            for c in 0..self.cols {
                let (x_hat, of_dy) = (found.x_hat(x.at(c)), dy.at(c));
                add_to(self.sums.dgamma, c, of_dy * x_hat, first);
                add_to(self.sums.dbeta, c, of_dy, first);
                if !self.dx.is_null() {
                    let dx = found.rstd * (h(c) - mean - x_hat * along);
                    *self.dx.add(at + c * self.inner) = T::narrow(dx as f32);
                }
            }
        }
    }
}

/// Adds to the sum of column `c`, or begins it; a null pointer has none.
///
/// # Safety
/// `sums` is null or valid for column `c`.
unsafe fn add_to(sums: *mut f32, c: usize, term: f64, begins: bool) {
    if !sums.is_null() {
        // SAFETY: the caller's promise.
        unsafe {
            let sum = sums.add(c);
            *sum = if begins { term as f32 } else { *sum + term as f32 };
        }
    }
}
