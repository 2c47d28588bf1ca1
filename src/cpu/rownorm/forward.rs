//! y = (x − mean)·rstd·gamma + beta.

use super::columns::{Columns, Rows};
use super::groups::Groups;
use super::lines::{Address, Lines, Row, RunKernel, Runs, for_runs};
use super::stats::{Norm, guess, reach, statistics, strays};
use crate::cpu::each::{each, repeat};
use crate::cpu::io::{self, Extent};
use crate::cpu::line::Blocks;
use crate::cpu::param::Param;
use crate::cpu::plan::Range;
use crate::cpu::simd::{Kernel, Lanes, Simd};
use crate::cpu::stored::Stored;

/// Bytes of x that a row may have to be written beside others: gamma and beta are then loaded once for all of them,
/// and the rows are still in the second-level cache.
const ROW_BYTES: usize = 128 * 1024;

/// The forward of some lines.
#[derive(Clone, Copy)]
pub(super) struct Forward<T, P, const CENTER: bool> {
    pub(super) x: *const T,
    pub(super) y: *mut T,
    pub(super) gamma: Param<P>,
    pub(super) beta: Param<P>,
    /// Null where it is not asked for, like `rstd`.
    pub(super) mean: *mut f32,
    pub(super) rstd: *mut f32,
    pub(super) norm: Norm,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) inner: usize,
    pub(super) stream: bool,
    /// Rows, or tiles of channels-first data.
    pub(super) lines: Range,
}

impl<T: Stored, P: Stored, const CENTER: bool> Kernel for Forward<T, P, CENTER> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.inner > 1 {
            // SAFETY: the tiles lie in the tensor.
            unsafe { for_runs(simd, &self, self.lines, self.cols, self.inner) };
            return;
        }
        // Streamed rows of f32 go one by one, in the order of their memory, so that reads run ahead of writes. Those of
        // 16 bits are bound by arithmetic.
        let side_by_side =
            !self.stream || T::NARROW && io::whole_lines::<S, T>(2) && io::lines_up::<T>(self.row_stride);
        let small = side_by_side && self.cols * size_of::<T>() <= ROW_BYTES;
        let mut groups = Groups::new(self.lines);
        while let Some((row, room)) = groups.peek() {
            // SAFETY: the rows lie in the tensor.
            let (rows, done) = unsafe {
                if S::REGISTERS >= 32 && small && room >= 4 {
                    // 16-bit results are rounded in pairs.
                    let done = if T::NARROW {
                        self.rows::<S, 4, 2, false>(simd, row)
                    } else {
                        self.rows::<S, 4, 1, false>(simd, row)
                    };
                    (4, done)
                } else if S::REGISTERS >= 16 && small && room >= 2 {
                    (2, self.rows::<S, 2, 2, false>(simd, row))
                } else if self.stream {
                    (1, self.rows::<S, 1, 4, true>(simd, row))
                } else {
                    (1, self.rows::<S, 1, 4, false>(simd, row))
                }
            };
            if groups.pass(rows, done) {
                // SAFETY: the row lies in the tensor.
                unsafe { self.exact(row * self.row_stride, row) };
            }
        }
        if self.stream {
            simd.fence();
        }
    }
}

impl<T: Stored, P: Stored, const CENTER: bool> Forward<T, P, CENTER> {
    /// `R` rows, from `row` on, `V` vectors of each at a time; false, and no y, if f32 may not hold the squares of one.
    ///
    /// # Safety
    /// They lie in the tensor.
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize, const V: usize, const STREAM: bool>(
        &self,
        simd: S,
        row: usize,
    ) -> bool {
        let mut fit = Fit::<S::F, R>::new(simd);
        let lines = Row::<STREAM> { cols: self.cols };
        // SAFETY: the rows lie in the tensor.
        unsafe {
            // All guesses before the first pass, which waits for its own alone.
            for r in 0..R {
                let x = self.x.add((row + r) * self.row_stride);
                [fit.m[r]] = guess::<S, T, _, 1, CENTER>(simd, lines, x);
            }
            for r in 0..R {
                let one = self.fit(simd, lines, (row + r) * self.row_stride, row + r, [fit.m[r]]);
                (fit.m[r], fit.rstd[r], fit.shift[r]) = (one.m[0], one.rstd[0], one.shift[0]);
            }
            if fit.strays(simd) {
                return false;
            }
            let at = row * self.row_stride;
            let columns = Rows { stride: self.row_stride, cols: self.cols };
            let write = Write { kernel: *self, columns, at, fit };
            let head = if self.stream { io::head(self.y.add(at).cast_const()) } else { 0 };
            columns.walk::<_, V>(simd, &write, head);
            true
        }
    }

    /// The statistics of the lines at element `at`, by a guess `m` of the mean; those asked for are written from index
    /// `index` on.
    ///
    /// # Safety
    /// The lines lie in the tensor, and the statistics have a value for each.
    #[inline(always)]
    unsafe fn fit<S: Simd, L: Lines<S, N>, const N: usize>(
        &self,
        simd: S,
        lines: L,
        at: usize,
        index: usize,
        m: [S::F; N],
    ) -> Fit<S::F, N> {
        // SAFETY: the caller's promise.
        unsafe {
            let (m, moments) = statistics::<S, T, L, N, CENTER>(simd, &self.norm, lines, self.x.add(at), m);
            let mut fit = Fit { m, ..Fit::new(simd) };
            each!(i < N, {
                fit.rstd[i] = self.norm.rstd(simd, moments.variance[i]);
                fit.shift[i] = -(moments.c[i] * fit.rstd[i]);
            });
            if !self.mean.is_null() {
                lines.store(simd, self.mean.add(index), m);
            }
            if !self.rstd.is_null() {
                lines.store(simd, self.rstd.add(index), fit.rstd);
            }
            fit
        }
    }
}

impl<S: Simd, T: Stored, P: Stored, const CENTER: bool> RunKernel<S> for Forward<T, P, CENTER> {
    #[inline(always)]
    unsafe fn runs<E: Extent, const N: usize>(&self, simd: S, runs: Runs<E>, n: usize, s: usize) -> bool {
        let at = n * self.row_stride + s;
        // SAFETY: the caller's promise.
        unsafe {
            let m: [S::F; N] = guess::<S, T, _, N, CENTER>(simd, runs, self.x.add(at));
            let fit = self.fit(simd, runs, at, n * self.inner + s, m);
            // Lanes behind a ragged end repeat one that is there.
            if fit.strays(simd) {
                return false;
            }
            runs.walk::<_, 1>(simd, &Write { kernel: *self, columns: runs, at, fit }, 0);
            true
        }
    }

    unsafe fn single(&self, n: usize, s: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.exact(n * self.row_stride + s, n * self.inner + s) };
    }
}

/// x̂ = (x − m)·rstd + shift, for `N` vectors of lines.
#[derive(Clone, Copy)]
struct Fit<F, const N: usize> {
    m: [F; N],
    rstd: [F; N],
    /// −c·rstd.
    shift: [F; N],
}

impl<F: Lanes, const N: usize> Fit<F, N> {
    #[inline(always)]
    fn new<S: Simd<F = F>>(simd: S) -> Self {
        let zero = repeat(simd.splat(0.0));
        Self { m: zero, rstd: zero, shift: zero }
    }

    /// Whether f32 may not hold the squares of one of the lines.
    #[inline(always)]
    fn strays<S: Simd<F = F>>(&self, simd: S) -> bool {
        let mut reaches = self.rstd;
        each!(i < N, {
            reaches[i] = reach(simd, reaches[i]);
        });
        strays::<S, N>(simd, reaches)
    }

    #[inline(always)]
    fn x_hat<S: Simd<F = F>, const CENTER: bool>(&self, x: F, i: usize) -> F {
        if CENTER { (x - self.m[i]).mul_add(self.rstd[i], self.shift[i]) } else { x * self.rstd[i] }
    }
}

/// Writes `N` groups of lines, the first of which begins at element `at`. It has a copy of the kernel, so that what
/// does not vary stays in registers.
struct Write<T, P, C, F, const N: usize, const CENTER: bool> {
    kernel: Forward<T, P, CENTER>,
    columns: C,
    at: usize,
    fit: Fit<F, N>,
}

impl<S: Simd, T: Stored, P: Stored, C: Columns<S>, const N: usize, const CENTER: bool> Blocks<S>
    for Write<T, P, C, S::F, N, CENTER>
{
    #[inline(always)]
    unsafe fn block<E: Extent, const V: usize>(&self, simd: S, extent: E, c: usize) {
        let Self { kernel, columns, at, fit } = self;
        // SAFETY: the caller's promise; parameters have a value a column; streamed whole vectors begin
        // on a vector's boundary, behind the head.
        unsafe {
            let gamma: [S::F; V] = columns.address().parameters(simd, extent, kernel.gamma, c);
            let beta: [S::F; V] = columns.address().parameters(simd, extent, kernel.beta, c);
            let mut y: [[S::F; V]; N] = repeat(repeat(simd.splat(0.0)));
            each!(i < N, {
                each!(v < V, {
                    let element = at + columns.offset(c, i) + v * S::LANES;
                    let x = extent.load(simd, kernel.x.add(element));
                    // Of rows side by side, which their first pass does not ask for.
                    if N > 1 && kernel.stream {
                        simd.prefetch(kernel.x.wrapping_add(element + N * kernel.row_stride).cast());
                    }
                    y[i][v] = fit.x_hat::<S, CENTER>(x, i).mul_add(gamma[v], beta[v]);
                });
            });
            each!(i < N, {
                extent.store_all(simd, kernel.y.add(at + columns.offset(c, i)), y[i], kernel.stream);
            });
        }
    }
}
