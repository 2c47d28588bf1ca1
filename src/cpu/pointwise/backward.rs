//! dx = alpha·g with g = dy·gamma·f′(u), and the sums over rows from which the gradients of the parameters are made.
//!
//! Each sum is kept a column apart: dy·f for dgamma, dy for dbeta, dy·f′·x for dalpha, dy·f′ for dshift. The factor
//! gamma of the last two does not vary along a column and joins once, when the columns are added up. So the bits of
//! a column depend on its chunk of rows alone, however the columns are cut.

use core::marker::PhantomData;

use crate::DType;
use crate::cpu::curve::Curve;
use crate::cpu::each::{each, repeat};
use crate::cpu::fold::Slots;
use crate::cpu::io::{self, Extent, Full, Tail};
use crate::cpu::param::Param;
use crate::cpu::plan::{Range, Tile};
use crate::cpu::simd::{Kernel, Lanes, Simd};
use crate::cpu::stage::{self, Output, Stage};
use crate::cpu::stored::Stored;
use crate::cpu::sum::{Terms, row_sums};

/// The backward of one tile of one chunk of rows.
#[derive(Clone, Copy)]
pub(super) struct Backward<T, P, C> {
    pub(super) dy: *const T,
    pub(super) x: *const T,
    /// Null where it is not asked for.
    pub(super) dx: *mut T,
    pub(super) gamma: Param<P>,
    pub(super) alpha: f32,
    pub(super) shift: f32,
    pub(super) row_stride: usize,
    pub(super) inner: usize,
    pub(super) stream: bool,
    pub(super) tile: Tile,
    /// The partial sums of this chunk; null where they are not asked for.
    pub(super) sums: Slots,
    pub(super) curve: PhantomData<C>,
}

impl<T: Stored, P: Stored, C: Curve> Kernel for Backward<T, P, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // Runs are not streamed: a boundary within one would make the order of its sums depend on the address.
        self.stream &= self.inner == 1 && !self.dx.is_null();
        let Range { begin, end } = self.tile.rows;
        if self.inner > 1 {
            // SAFETY: the sums of this chunk have one value a column, and this task alone writes those of the tile.
            unsafe { self.sums.clear(self.tile.cols) };
            for row in begin..end {
                // SAFETY: the row lies in the tensor.
                unsafe { self.runs(simd, row) };
            }
        } else {
            let mut row = begin;
            // 16-bit rows go two by two vectors, which are rounded in pairs.
            while S::REGISTERS >= 32 && !T::NARROW && end - row >= 4 {
                // SAFETY: the rows lie in the tensor.
                unsafe { self.rows::<S, 4>(simd, row) };
                row += 4;
            }
            // On every level, since a chunk may have twice as many rows as one sum may take additions.
            while end - row >= 2 {
                // SAFETY: the rows lie in the tensor.
                unsafe { self.rows::<S, 2>(simd, row) };
                row += 2;
            }
            while row < end {
                // SAFETY: the row lies in the tensor.
                unsafe { self.rows::<S, 1>(simd, row) };
                row += 1;
            }
        }
        if self.stream {
            simd.fence();
        }
    }
}

impl<T: Stored, P: Stored, C: Curve> Backward<T, P, C> {
    /// `R` rows of the tile, from `row` on: each sum is loaded and stored once for all of them. Where dx is streamed, it
    /// is written in whole lines: by the vectors themselves if they make whole lines, and else by way of the stage.
    ///
    /// # Safety
    /// They lie in the tensor.
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize>(&self, simd: S, row: usize) {
        const { assert!(R <= stage::ROWS, "the stage has room for the rows") };
        let Range { mut begin, end } = self.tile.cols;
        let at = row * self.row_stride;
        let direct = io::stores_whole_lines::<S, T>() && io::lines_up::<T>(self.row_stride);
        let mut stage = Stage::<T>::new();
        while begin < end {
            let to = self.dx.wrapping_add(at + begin);
            // Up to the next line, and from there in whole lines.
            let head = io::head(to.cast_const());
            let staged = self.stream && !(direct && head == 0);
            let (until, output) = if staged {
                let count = if head > 0 { head } else { Stage::<T>::COLUMNS }.min(end - begin);
                let (first, row_stride) = (stage.row(0).wrapping_sub(begin), Stage::<T>::COLUMNS);
                (begin + count, Output { first, row_stride, stream: false })
            } else {
                let (first, row_stride) = (self.dx.wrapping_add(at), self.row_stride);
                (end, Output { first, row_stride, stream: self.stream })
            };
            // SAFETY: the columns lie in the tile; the stage has room for so many of each row; what is streamed begins on
            // a line's boundary.
            unsafe { self.columns::<S, R>(simd, at, Range { begin, end: until }, output) };
            if staged {
                for r in 0..R {
                    let (from, to) = (stage.row(r).cast_const(), to.wrapping_add(r * self.row_stride));
                    // SAFETY: the columns have just been written to the stage.
                    unsafe { io::stream_out(simd, from, to, until - begin) };
                }
            }
            begin = until;
        }
    }

    /// The columns `columns` of `R` rows, the first of which begins at element `at`.
    ///
    /// # Safety
    /// They lie in the tensor and in the tile, and `output` has room for them, if dx is asked for, on a line's boundary if
    /// it is streamed.
    #[inline(always)]
    unsafe fn columns<S: Simd, const R: usize>(&self, simd: S, at: usize, columns: Range, output: Output<T>) {
        // A copy of its own, so that what does not vary stays in registers.
        let kernel = *self;
        let Range { begin: mut c, end } = columns;
        // SAFETY: every extent lies between the first and the last column.
        unsafe {
            if R == 1 {
                while S::REGISTERS >= 32 && end - c >= 4 * S::LANES {
                    kernel.block::<S, _, 1, 4, 4>(simd, Full, at, c, output);
                    c += 4 * S::LANES;
                }
                while S::REGISTERS >= 16 && end - c >= 2 * S::LANES {
                    kernel.block::<S, _, 1, 2, 2>(simd, Full, at, c, output);
                    c += 2 * S::LANES;
                }
            }
            while R == 2 && T::NARROW && S::REGISTERS >= 32 && end - c >= 2 * S::LANES {
                kernel.block::<S, _, 2, 2, 4>(simd, Full, at, c, output);
                c += 2 * S::LANES;
            }
            while end - c >= S::LANES {
                kernel.block::<S, _, R, 1, R>(simd, Full, at, c, output);
                c += S::LANES;
            }
            if c < end {
                kernel.block::<S, _, R, 1, R>(simd, Tail(end - c), at, c, output);
            }
        }
    }

    /// `R` rows × `V` vectors, `N` = R·V in all, at column `c` of the row that begins at element `at`.
    ///
    /// # Safety
    /// They lie in the tensor and in the tile; `output` as in [`Self::columns`].
    #[inline(always)]
    unsafe fn block<S: Simd, E: Extent, const R: usize, const V: usize, const N: usize>(
        &self,
        simd: S,
        extent: E,
        at: usize,
        c: usize,
        output: Output<T>,
    ) {
        let first = at == self.tile.rows.begin * self.row_stride;
        let (mut x, mut dy): ([_; N], [_; N]) = (repeat(simd.splat(0.0)), repeat(simd.splat(0.0)));
        each!(i < N, {
            let element = at + (i / V) * self.row_stride + c + (i % V) * S::LANES;
            // SAFETY: the caller's promise.
            unsafe {
                x[i] = extent.load(simd, self.x.add(element));
                dy[i] = extent.load(simd, self.dy.add(element));
            }
            if self.stream {
                // The same column of the next rows: the processor alone keeps too few lines under way.
                let next = element + R * self.row_stride;
                simd.prefetch(self.x.wrapping_add(next).cast());
                simd.prefetch(self.dy.wrapping_add(next).cast());
            }
        });
        let u = C::argument(simd, x, simd.splat(self.alpha), simd.splat(self.shift));
        let (f, slope) = self.curve(simd, u);
        if !self.dx.is_null() {
            // SAFETY: the caller's promise.
            unsafe { self.write::<S, E, R, V, N>(simd, extent, c, output, &dy, &slope) };
        }
        each!(v < V, {
            let column = c + v * S::LANES;
            // SAFETY: the sums have a value for each column of the tile.
            unsafe {
                self.gather::<S, E, R>(
                    simd,
                    extent,
                    column,
                    pick(&x, v),
                    pick(&dy, v),
                    pick(&f, v),
                    pick(&slope, v),
                    first,
                );
            }
        });
    }

    /// f(u) and f′(u), as far as a gradient that is asked for is made of them.
    #[inline(always)]
    fn curve<S: Simd, const N: usize>(&self, simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
        let Slots { dgamma, dalpha, dshift, .. } = self.sums;
        let none = repeat(simd.splat(0.0));
        if !(self.dx.is_null() && dalpha.is_null() && dshift.is_null()) {
            C::value_and_slope(simd, u)
        } else if !dgamma.is_null() {
            (C::value(simd, u, DType::F32), none)
        } else {
            (none, none)
        }
    }

    /// dx of `R` rows × `V` vectors, `N` = R·V in all, at column `c`.
    ///
    /// # Safety
    /// gamma has values for them; `output` as in [`Self::columns`].
    #[inline(always)]
    unsafe fn write<S: Simd, E: Extent, const R: usize, const V: usize, const N: usize>(
        &self,
        simd: S,
        extent: E,
        c: usize,
        output: Output<T>,
        dy: &[S::F; N],
        slope: &[S::F; N],
    ) {
        // SAFETY: gamma has a value for each column.
        let mut factor: [S::F; V] = unsafe { self.gamma.load(simd, extent, c) };
        each!(v < V, {
            factor[v] = simd.splat(self.alpha) * factor[v];
        });
        each!(r < R, {
            let mut dx = factor;
            each!(v < V, {
                dx[v] = (dy[r * V + v] * dx[v]) * slope[r * V + v];
            });
            let to = output.first.wrapping_add(r * output.row_stride + c);
            // SAFETY: the caller's promise.
            unsafe { extent.store_all(simd, to, dx, output.stream) };
        });
    }

    /// Adds the terms of `R` rows to the sums of the columns from `c` on, or begins the sums with them.
    ///
    /// # Safety
    /// The extent at `c` lies in the tile.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the formula's own names, all of one type")]
    unsafe fn gather<S: Simd, E: Extent, const R: usize>(
        &self,
        simd: S,
        extent: E,
        c: usize,
        x: [S::F; R],
        dy: [S::F; R],
        f: [S::F; R],
        slope: [S::F; R],
        first: bool,
    ) {
        let Slots { dgamma, dbeta, dalpha, dshift } = self.sums;
        // SAFETY: each sum is null or has a value for each column of the tile, which this task alone touches.
        unsafe {
            if !dgamma.is_null() {
                add(simd, extent, dgamma.add(c), dot(dy, f), first);
            }
            if !dbeta.is_null() {
                add(simd, extent, dbeta.add(c), total(dy), first);
            }
            if dalpha.is_null() && dshift.is_null() {
                return;
            }
            let mut h = dy;
            each!(r < R, {
                h[r] = h[r] * slope[r];
            });
            if !dalpha.is_null() {
                add(simd, extent, dalpha.add(c), dot(h, x), first);
            }
            if !dshift.is_null() {
                add(simd, extent, dshift.add(c), total(h), first);
            }
        }
    }

    /// The runs of one row of channels-first data: each has one gamma, and adds to one value of each sum.
    ///
    /// # Safety
    /// The row lies in the tensor.
    #[inline(always)]
    unsafe fn runs<S: Simd>(&self, simd: S, row: usize) {
        for c in self.tile.cols.begin..self.tile.cols.end {
            let at = row * self.row_stride + c * self.inner;
            // SAFETY: run `c` lies in the tensor; parameters and sums have a value for each column.
            unsafe {
                let gamma = self.gamma.splat(simd, c);
                let run = Run { kernel: self, at, factor: simd.splat(self.alpha) * gamma };
                let sums = row_sums(simd, &run, 0, self.inner);
                for (slot, sum) in self.sums.all().into_iter().zip(sums) {
                    if !slot.is_null() {
                        *slot.add(c) += sum;
                    }
                }
            }
        }
    }
}

/// The run that begins at element `at`.
struct Run<'a, T, P, C, F> {
    kernel: &'a Backward<T, P, C>,
    at: usize,
    factor: F,
}

impl<S: Simd, T: Stored, P: Stored, C: Curve> Terms<S, 4> for Run<'_, T, P, C, S::F> {
    #[inline(always)]
    unsafe fn add<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize, sums: &mut [[S::F; N]; 4]) {
        let kernel = self.kernel;
        let (mut x, mut dy): ([_; N], [_; N]) = (repeat(simd.splat(0.0)), repeat(simd.splat(0.0)));
        each!(i < N, {
            let element = self.at + c + i * S::LANES;
            // SAFETY: the caller's promise.
            unsafe {
                x[i] = extent.load(simd, kernel.x.add(element));
                dy[i] = extent.load(simd, kernel.dy.add(element));
            }
        });
        let u = C::argument(simd, x, simd.splat(kernel.alpha), simd.splat(kernel.shift));
        let (f, slope) = kernel.curve(simd, u);
        each!(i < N, {
            if !kernel.dx.is_null() {
                let dx = (dy[i] * self.factor) * slope[i];
                // SAFETY: the caller's promise.
                unsafe { extent.store(simd, kernel.dx.add(self.at + c + i * S::LANES), dx, false) };
            }
            let h = dy[i] * slope[i];
            sums[0][i] = dy[i].mul_add(f[i], sums[0][i]);
            sums[1][i] = sums[1][i] + dy[i];
            sums[2][i] = h.mul_add(x[i], sums[2][i]);
            sums[3][i] = sums[3][i] + h;
        });
    }
}

/// Vector `v` of each of `R` rows.
#[inline(always)]
fn pick<F: Copy, const N: usize, const R: usize>(from: &[F; N], v: usize) -> [F; R] {
    let mut rows = repeat(from[v]);
    each!(r < R, {
        rows[r] = from[r * (N / R) + v];
    });
    rows
}

/// a₀·b₀ + a₁·b₁ + …
#[inline(always)]
fn dot<F: Lanes, const R: usize>(a: [F; R], b: [F; R]) -> F {
    let mut sum = a[0] * b[0];
    each!(r < R, {
        if r > 0 {
            sum = a[r].mul_add(b[r], sum);
        }
    });
    sum
}

/// a₀ + a₁ + …
#[inline(always)]
fn total<F: Lanes, const R: usize>(a: [F; R]) -> F {
    let mut sum = a[0];
    each!(r < R, {
        if r > 0 {
            sum = sum + a[r];
        }
    });
    sum
}

/// Adds a vector to the values at `p`, or writes it there if it is the first.
///
/// # Safety
/// `p` is valid for reads and writes of the extent.
#[inline(always)]
unsafe fn add<S: Simd, E: Extent>(simd: S, extent: E, p: *mut f32, term: S::F, first: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = if first { term } else { extent.load(simd, p.cast_const()) + term };
        extent.store(simd, p, sum, false);
    }
}
