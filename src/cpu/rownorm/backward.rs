//! dx = rstd·(h − a − x̂·b) with h = dy·gamma, a = Σh/cols (LayerNorm alone) and b from Σh·x̂; dgamma = Σ dy·x̂ and
//! dbeta = Σ dy over rows.

use super::columns::{Columns, Rows};
use super::groups::Groups;
use super::lines::{Address, Lines, Row, RunKernel, Runs, for_runs};
use super::stats::{Moments, Norm, guess, moments, of, reach, statistics, strays};
use crate::cpu::each::{each, repeat};
use crate::cpu::fold::Slots;
use crate::cpu::io::{self, Extent};
use crate::cpu::line::Blocks;
use crate::cpu::param::Param;
use crate::cpu::plan::Range;
use crate::cpu::simd::{Kernel, Lanes, Simd};
use crate::cpu::stored::Stored;
use crate::cpu::sum::Terms;

/// Bytes of x above which rows are streamed side by side: the sums are then loaded and stored once for all of them.
/// Shorter rows go one by one, in the order of their memory, so that reads run ahead of writes.
const ROW_BYTES: usize = 8192;

/// The backward of one chunk of lines.
#[derive(Clone, Copy)]
pub(super) struct Backward<T, P, const CENTER: bool> {
    pub(super) dy: *const T,
    pub(super) x: *const T,
    /// Null where it is not asked for.
    pub(super) dx: *mut T,
    pub(super) gamma: Param<P>,
    /// Null where the forward did not save it, like `rstd`.
    pub(super) mean: *const f32,
    pub(super) rstd: *const f32,
    pub(super) norm: Norm,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) inner: usize,
    pub(super) stream: bool,
    /// Rows, or tiles of channels-first data.
    pub(super) lines: Range,
    /// The partial sums of this chunk; null where they are not asked for.
    pub(super) sums: Slots,
}

impl<T: Stored, P: Stored, const CENTER: bool> Kernel for Backward<T, P, CENTER> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if self.inner > 1 {
            self.stream = false;
            // SAFETY: the sums of this chunk have one value a column, and this task alone writes them.
            unsafe { self.sums.clear(Range { begin: 0, end: self.cols }) };
            // SAFETY: the tiles lie in the tensor.
            unsafe { for_runs(simd, &self, self.lines, self.cols, self.inner) };
            return;
        }
        // With fewer registers two vectors of a row make a line, and two rows of x and dy leave the first-level cache.
        let wide = S::REGISTERS >= 32 && self.cols * size_of::<T>() > ROW_BYTES;
        let side_by_side =
            !self.stream || wide && io::stores_whole_lines::<S, T>() && io::lines_up::<T>(self.row_stride);
        let mut groups = Groups::new(self.lines);
        while let Some((row, room)) = groups.peek() {
            // SAFETY: the rows lie in the tensor.
            let (rows, done) = unsafe {
                if S::REGISTERS >= 32 && !T::NARROW && side_by_side && room >= 4 {
                    (4, self.rows::<S, 4, 1, false>(simd, row))
                } else if side_by_side && room >= 2 {
                    // Two vectors of each row where registers hold them; 16 bits need more, to be widened.
                    let done = if S::REGISTERS >= if T::NARROW { 32 } else { 16 } {
                        self.rows::<S, 2, 2, false>(simd, row)
                    } else {
                        self.rows::<S, 2, 1, false>(simd, row)
                    };
                    (2, done)
                } else if self.stream {
                    (1, self.rows::<S, 1, 2, true>(simd, row))
                } else {
                    (1, self.rows::<S, 1, 2, false>(simd, row))
                }
            };
            if groups.pass(rows, done) {
                // SAFETY: the row lies in the tensor; the sums are those of this chunk.
                unsafe { self.exact(row * self.row_stride, row == self.lines.begin) };
            }
        }
        if self.stream {
            simd.fence();
        }
    }
}

impl<T: Stored, P: Stored, const CENTER: bool> Backward<T, P, CENTER> {
    /// `R` rows, from `row` on, `V` vectors of each at a time: gamma and each sum are loaded once for all of them. False,
    /// and nothing written, if f32 may not hold the squares of one.
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
        // SAFETY: the rows lie in the tensor.
        unsafe {
            let lines = Row::<STREAM> { cols: self.cols };
            for r in 0..R {
                let at = (row + r) * self.row_stride;
                let one: Fit<S::F, 1> = self.fit(simd, lines, at, row + r);
                fit.set(r, &one);
            }
            if strays::<S, R>(simd, fit.reach) {
                return false;
            }
            let at = row * self.row_stride;
            let columns = Rows { stride: self.row_stride, cols: self.cols };
            let write = Write { kernel: *self, columns, at, fit, first: row == self.lines.begin };
            let streamed = self.stream && !self.dx.is_null();
            let head = if streamed { io::head(self.dx.add(at).cast_const()) } else { 0 };
            columns.walk::<_, V>(simd, &write, head);
            true
        }
    }

    /// What dx and x̂ of the lines at element `at` are made of; `index` is that of their statistics.
    ///
    /// # Safety
    /// The lines lie in the tensor.
    #[inline(always)]
    unsafe fn fit<S: Simd, L: Lines<S, N>, const N: usize>(
        &self,
        simd: S,
        lines: L,
        at: usize,
        index: usize,
    ) -> Fit<S::F, N> {
        let mut fit = Fit::new(simd);
        if self.dx.is_null() && self.sums.dgamma.is_null() {
            return fit;
        }
        // SAFETY: the caller's promise; the statistics are null or have a value a line.
        unsafe {
            let x = self.x.add(at);
            let m = if !CENTER {
                repeat(simd.splat(0.0))
            } else if self.mean.is_null() {
                // The moments are gathered below once more, as with a saved mean, so that the bits are the same.
                let m = guess::<S, T, L, N, CENTER>(simd, lines, x);
                statistics::<S, T, L, N, CENTER>(simd, &self.norm, lines, x, m).0
            } else {
                lines.load(simd, self.mean.add(index))
            };
            let (moments, h, hd) = if self.dx.is_null() {
                let zero = repeat(simd.splat(0.0));
                (moments::<S, T, L, N, CENTER>(simd, &self.norm, lines, x, m), zero, zero)
            } else {
                let terms = Projections { kernel: *self, address: lines.address(), at, m: &m };
                let [sums, squares, h, hd] = lines.sums(simd, &terms);
                (Moments::new(simd, &self.norm, sums, squares), h, hd)
            };
            fit.m = m;
            each!(i < N, {
                fit.rstd[i] = self.norm.rstd(simd, moments.variance[i]);
                fit.reach[i] = reach(simd, fit.rstd[i]);
            });
            if !self.rstd.is_null() {
                fit.rstd = lines.load(simd, self.rstd.add(index));
            }
            each!(i < N, {
                let (c, rstd) = (moments.c[i], fit.rstd[i]);
                fit.shift[i] = -(c * rstd);
                fit.a[i] = rstd * self.norm.average(simd, h[i]);
                let dot = rstd * (hd[i] - c * h[i]);
                fit.b[i] = rstd * self.norm.projection(simd, dot, moments.variance[i], rstd);
                // Products with h may overflow where squares do not.
                let infinite = simd.splat(f32::INFINITY);
                fit.reach[i] = S::F::select(fit.b[i].abs().lt(infinite), fit.reach[i], infinite);
            });
            fit
        }
    }
}

impl<S: Simd, T: Stored, P: Stored, const CENTER: bool> RunKernel<S> for Backward<T, P, CENTER> {
    #[inline(always)]
    unsafe fn runs<E: Extent, const N: usize>(&self, simd: S, runs: Runs<E>, n: usize, s: usize) -> bool {
        let at = n * self.row_stride + s;
        // SAFETY: the caller's promise.
        unsafe {
            let fit: Fit<S::F, N> = self.fit(simd, runs, at, n * self.inner + s);
            if strays::<S, N>(simd, fit.reach) {
                return false;
            }
            runs.walk::<_, 1>(simd, &Write { kernel: *self, columns: runs, at, fit, first: false }, 0);
            true
        }
    }

    unsafe fn single(&self, n: usize, s: usize) {
        // SAFETY: the caller's promise; the sums have been cleared.
        unsafe { self.exact(n * self.row_stride + s, false) };
    }
}

/// x̂ = (x − m)·rstd + shift and dx = h·rstd − (x̂·b + a), for `N` vectors of lines.
#[derive(Clone, Copy)]
struct Fit<F, const N: usize> {
    m: [F; N],
    rstd: [F; N],
    /// −c·rstd.
    shift: [F; N],
    a: [F; N],
    b: [F; N],
    /// As [`reach`] has it.
    reach: [F; N],
}

impl<F: Lanes, const N: usize> Fit<F, N> {
    #[inline(always)]
    fn new<S: Simd<F = F>>(simd: S) -> Self {
        let zero = repeat(simd.splat(0.0));
        Self { m: zero, rstd: zero, shift: zero, a: zero, b: zero, reach: zero }
    }

    #[inline(always)]
    fn x_hat<S: Simd<F = F>, const CENTER: bool>(&self, x: F, i: usize) -> F {
        if CENTER { (x - self.m[i]).mul_add(self.rstd[i], self.shift[i]) } else { x * self.rstd[i] }
    }

    #[inline(always)]
    fn dx<S: Simd<F = F>, const CENTER: bool>(&self, h: F, x_hat: F, i: usize) -> F {
        let along = if CENTER { x_hat.mul_add(self.b[i], self.a[i]) } else { x_hat * self.b[i] };
        h.mul_add(self.rstd[i], -along)
    }

    #[inline(always)]
    fn set(&mut self, i: usize, one: &Fit<F, 1>) {
        self.m[i] = one.m[0];
        self.rstd[i] = one.rstd[0];
        self.shift[i] = one.shift[0];
        self.a[i] = one.a[0];
        self.b[i] = one.b[0];
        self.reach[i] = one.reach[0];
    }
}

/// Σd, Σd², Σh and Σh·d with d = x − m; without `CENTER` Σx² and Σh·x alone.
struct Projections<'a, T, P, A, F, const M: usize, const CENTER: bool> {
    kernel: Backward<T, P, CENTER>,
    address: A,
    at: usize,
    m: &'a [F; M],
}

impl<S: Simd, T: Stored, P: Stored, A: Address, const M: usize, const CENTER: bool> Terms<S, 4>
    for Projections<'_, T, P, A, S::F, M, CENTER>
{
    #[inline(always)]
    unsafe fn add<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize, sums: &mut [[S::F; N]; 4]) {
        let [sum, squares, sum_h, sum_hd] = sums;
        // SAFETY: gamma has a value a column.
        let gamma: [S::F; N] = unsafe { self.address.parameters(simd, extent, self.kernel.gamma, c) };
        each!(i < N, {
            let element = self.at + self.address.offset(c, i, S::LANES);
            // SAFETY: the caller's promise.
            let (mut d, h) = unsafe {
                let (x, dy) = (self.kernel.x.add(element), self.kernel.dy.add(element));
                self.address.prefetch(simd, x);
                self.address.prefetch(simd, dy);
                (extent.load(simd, x), extent.load(simd, dy) * gamma[i])
            };
            if CENTER {
                d = d - of(self.m, i);
                sum[i] = sum[i] + d;
                sum_h[i] = sum_h[i] + h;
            }
            squares[i] = d.mul_add(d, squares[i]);
            sum_hd[i] = h.mul_add(d, sum_hd[i]);
        });
    }
}

/// Writes dx of `N` vectors of lines, the first of which begins at element `at`, and adds to the sums.
struct Write<T, P, C, F, const N: usize, const CENTER: bool> {
    kernel: Backward<T, P, CENTER>,
    columns: C,
    at: usize,
    fit: Fit<F, N>,
    /// Whether the sums begin here.
    first: bool,
}

impl<S: Simd, T: Stored, P: Stored, C: Columns<S>, const N: usize, const CENTER: bool> Blocks<S>
    for Write<T, P, C, S::F, N, CENTER>
{
    #[inline(always)]
    unsafe fn block<E: Extent, const V: usize>(&self, simd: S, extent: E, c: usize) {
        let Self { kernel, columns, at, fit, first } = self;
        // SAFETY: the caller's promise; gamma has a value a column, and the sums, if they are not null; streamed
        // whole vectors begin on a vector's boundary, behind the head.
        unsafe {
            let gamma: [S::F; V] = columns.address().parameters(simd, extent, kernel.gamma, c);
            let Slots { dgamma, dbeta, .. } = kernel.sums;
            let begin = |slot: *mut f32| {
                if slot.is_null() || *first {
                    repeat(simd.splat(0.0))
                } else {
                    columns.sums(simd, extent, slot.cast_const(), c)
                }
            };
            let (mut sum, mut product): ([_; V], [_; V]) = (begin(dbeta), begin(dgamma));
            let mut dx: [[S::F; V]; N] = repeat(repeat(simd.splat(0.0)));
            each!(i < N, {
                each!(v < V, {
                    let element = at + columns.offset(c, i) + v * S::LANES;
                    let dy = extent.load(simd, kernel.dy.add(element));
                    let x_hat = fit.x_hat::<S, CENTER>(extent.load(simd, kernel.x.add(element)), i);
                    dx[i][v] = fit.dx::<S, CENTER>(dy * gamma[v], x_hat, i);
                    sum[v] = sum[v] + dy;
                    product[v] = dy.mul_add(x_hat, product[v]);
                });
            });
            if !kernel.dx.is_null() {
                each!(i < N, {
                    extent.store_all(simd, kernel.dx.add(at + columns.offset(c, i)), dx[i], kernel.stream);
                });
            }
            if !dgamma.is_null() {
                columns.put(simd, extent, dgamma, c, product);
            }
            if !dbeta.is_null() {
                columns.put(simd, extent, dbeta, c, sum);
            }
        }
    }
}
