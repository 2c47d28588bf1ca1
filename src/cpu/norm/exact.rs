//! Rows whose squares f32 cannot hold, one by one and in f64, which holds the square of every f32.

use super::backward;
use super::forward;
use super::stats::Norm;
use crate::cpu::rows::Rows;
use crate::cpu::stored::Stored;
use crate::cpu::tensor::Tensor;

/// The values of one row, one behind the other or `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<T> {
    /// Each value is a row of its own.
    pub(super) values: Rows<T>,
    pub(super) cols: usize,
}

impl<T: Stored> Line<T> {
    /// Row `row` of a tensor whose values lie side by side.
    pub(super) fn of(tensor: Tensor<T>, row: usize, cols: usize) -> Self {
        Self { values: tensor.from(row).with_stride(1), cols }
    }

    fn at(self, c: usize) -> f64 {
        f64::from(self.values.value(c, 0))
    }

    fn put(self, c: usize, v: f64) {
        self.values.put(c, 0, v as f32);
    }

    /// The mean of `term` of each value.
    fn mean(self, term: impl Fn(f64) -> f64) -> f64 {
        (0..self.cols).map(|c| term(self.at(c))).sum::<f64>() / self.cols as f64
    }

    pub(super) fn statistics<const CENTER: bool>(self, norm: &Norm) -> Statistics {
        let mean = if CENTER { self.mean(|x| x) } else { 0.0 };
        let variance = self.mean(|x| (x - mean) * (x - mean));
        let (std, rstd) = norm.exact(variance, self.cols);
        Statistics { mean, std, rstd }
    }
}

/// What a row is normalised by.
#[derive(Clone, Copy, Default)]
pub(super) struct Statistics {
    pub(super) mean: f64,
    /// With cols − 1 in the unbiased form.
    std: f64,
    pub(super) rstd: f64,
}

impl Statistics {
    pub(super) fn x_hat(self, x: f64) -> f64 {
        (x - self.mean) * self.rstd
    }
}

/// y of row `row`.
///
/// # Safety
/// The row exists, with statistics and parameters.
#[cold]
#[inline(never)]
pub(super) unsafe fn forward_row<T: Stored, const CENTER: bool>(
    arguments: &forward::Arguments<T>,
    row: usize,
) {
    let &forward::Arguments { x, y, cols, .. } = arguments;
    // SAFETY: the caller's promise.
    unsafe { forward_line::<T, CENTER>(arguments, Line::of(x, row, cols), Line::of(y, row, cols), row) }
}

/// y of the row `x`, whose statistics have index `index`.
///
/// # Safety
/// The parameters have a value a column, and the statistics one for the index.
#[cold]
#[inline(never)]
pub(super) unsafe fn forward_line<T: Stored, const CENTER: bool>(
    arguments: &forward::Arguments<T>,
    x: Line<T>,
    y: Line<T>,
    index: usize,
) {
    let found = x.statistics::<CENTER>(&arguments.norm);
    // SAFETY: the caller's promise.
    unsafe { arguments.save(index, found.mean as f32, found.rstd as f32) };
    for c in 0..x.cols {
        // SAFETY: the caller's promise.
        let (gamma, beta) = unsafe { (arguments.gamma.value(c), arguments.beta.value(c)) };
        // A value of x is read before y replaces it.
        y.put(c, found.x_hat(x.at(c)) * f64::from(gamma) + f64::from(beta));
    }
}

/// dx of a row, with dsum added, and what its column `c` adds to the sums of dgamma and dbeta: `sums` is called with them. Saved statistics
/// are not read: rstd may be beyond f32.
///
/// # Safety
/// gamma has a value a column.
#[cold]
#[inline(never)]
pub(super) unsafe fn backward_line<T: Stored, const CENTER: bool>(
    arguments: &backward::Arguments<T>,
    dy: Line<T>,
    x: Line<T>,
    [dx, dsum]: [Option<Line<T>>; 2],
    sums: &mut dyn FnMut(usize, f32, f32),
) {
    let (norm, cols) = (&arguments.norm, x.cols);
    let found = x.statistics::<CENTER>(norm);
    // SAFETY: the caller's promise.
    let h = |c: usize| dy.at(c) * f64::from(unsafe { arguments.gamma.value(c) });
    let (mut sum, mut dot) = (0.0, 0.0);
    for c in 0..cols {
        sum += h(c);
        dot += h(c) * found.x_hat(x.at(c));
    }
    let mean = if CENTER { sum / cols as f64 } else { 0.0 };
    let along = norm.exact_projection(dot, cols, found.std, found.rstd);
    for c in 0..cols {
        let (x_hat, of_dy) = (found.x_hat(x.at(c)), dy.at(c));
        let dx_here = found.rstd * (h(c) - mean - x_hat * along);
        sums(c, (of_dy * x_hat) as f32, of_dy as f32);
        // A value of dy is read before dx replaces it.
        if let Some(dx) = dx {
            let joins = dsum.map(|dsum| dsum.values.value(c, 0));
            dx.values.put(c, 0, joins.map_or(dx_here as f32, |joins| dx_here as f32 + joins));
        }
    }
}
