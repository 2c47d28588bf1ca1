//! y = gamma·f(alpha·x + shift) + beta.

use core::marker::PhantomData;

use crate::cpu::curve::Curve;
use crate::cpu::each::{each, repeat};
use crate::cpu::io::{self, Extent};
use crate::cpu::line::{Across, Affine, Along, Blocks, for_blocks, widest};
use crate::cpu::param::Param;
use crate::cpu::plan::{Range, Tile};
use crate::cpu::simd::{Kernel, Lanes, Simd};
use crate::cpu::stored::Stored;

/// How far ahead of the reads memory is asked for where the output is streamed, in bytes: the processor alone keeps too
/// few lines under way.
const AHEAD: usize = 8192;
/// Columns from which rows go four by four whatever their type: gamma and beta of f32 then fill half of a first-level
/// cache of 32 KB, and would be fetched for each row anew.
const WIDE: usize = 2048;

/// The forward of one tile.
#[derive(Clone, Copy)]
pub(super) struct Forward<T, P, C> {
    pub(super) x: *const T,
    pub(super) y: *mut T,
    pub(super) gamma: Param<P>,
    pub(super) beta: Param<P>,
    pub(super) alpha: f32,
    pub(super) shift: f32,
    pub(super) row_stride: usize,
    /// S of channels-first data; 1 where parameters run along the row.
    pub(super) inner: usize,
    pub(super) stream: bool,
    /// Rows, and columns of the parameters.
    pub(super) tile: Tile,
    pub(super) curve: PhantomData<C>,
}

impl<T: Stored, P: Stored, C: Curve> Kernel for Forward<T, P, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.stream {
            self.tile::<S, true>(simd);
            simd.fence();
        } else {
            self.tile::<S, false>(simd);
        }
    }
}

impl<T: Stored, P: Stored, C: Curve> Forward<T, P, C> {
    /// The tile; past the cache if `STREAM`, which is a constant so that loops have no branch for it.
    #[inline(always)]
    fn tile<S: Simd, const STREAM: bool>(self, simd: S) {
        let Tile { rows, cols } = self.tile;
        if self.inner == 1 {
            let affine = Along { gamma: self.gamma, beta: self.beta };
            // Parameters of 16 bits are widened, and those of wide rows read, once for four rows.
            let shared = T::NARROW || cols.len() >= WIDE;
            let apart = io::whole_lines::<S, T>(widest::<S>()) || !io::collide::<T>(self.row_stride);
            let side_by_side = !STREAM || apart && io::lines_up::<T>(self.row_stride);
            let mut row = rows.begin;
            // SAFETY: the tile's rows and columns lie in the tensor, and parameters have one value a column.
            unsafe {
                while shared && side_by_side && rows.end - row >= 4 {
                    self.lines::<S, _, 4, STREAM>(simd, row * self.row_stride, cols, affine);
                    row += 4;
                }
                while row < rows.end {
                    self.lines::<S, _, 1, STREAM>(simd, row * self.row_stride, cols, affine);
                    row += 1;
                }
            }
        } else {
            for row in rows.begin..rows.end {
                for c in cols.begin..cols.end {
                    let run = Range { begin: 0, end: self.inner };
                    let at = row * self.row_stride + c * self.inner;
                    // SAFETY: parameters have one value a column; run `c` of a row in the tile lies in the tensor.
                    unsafe {
                        let affine =
                            Across { gamma: self.gamma.splat(simd, c), beta: self.beta.splat(simd, c) };
                        self.lines::<S, _, 1, STREAM>(simd, at, run, affine);
                    }
                }
            }
        }
    }

    /// The elements `columns` of `R` lines, a row stride apart, the first of which begins at element `at`.
    ///
    /// # Safety
    /// They lie in the tensor; `affine` has parameters for them.
    #[inline(always)]
    unsafe fn lines<S: Simd, A: Affine<S>, const R: usize, const STREAM: bool>(
        &self,
        simd: S,
        at: usize,
        columns: Range,
        affine: A,
    ) {
        let Range { begin, end } = columns;
        // SAFETY: the lines lie in the tensor.
        unsafe {
            let lines = Lines::<_, _, _, _, R, STREAM> {
                kernel: *self,
                x: self.x.add(at),
                y: self.y.add(at),
                affine,
            };
            let head = if STREAM { io::head(lines.y.add(begin).cast_const()) } else { 0 };
            for_blocks(simd, &lines, begin, end, head);
        }
    }
}

/// `R` lines, with the kernel's own copy of what does not vary, so that it stays in registers.
struct Lines<T, P, C, A, const R: usize, const STREAM: bool> {
    kernel: Forward<T, P, C>,
    x: *const T,
    y: *mut T,
    affine: A,
}

impl<S: Simd, T: Stored, P: Stored, C: Curve, A: Affine<S>, const R: usize, const STREAM: bool> Blocks<S>
    for Lines<T, P, C, A, R, STREAM>
{
    #[inline(always)]
    unsafe fn block<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize) {
        let kernel = &self.kernel;
        // SAFETY: the caller's promise.
        let (gamma, beta) = unsafe { self.affine.at::<E, N>(simd, extent, c) };
        for r in 0..R {
            let at = r * kernel.row_stride + c;
            let mut x: [_; N] = repeat(simd.splat(0.0));
            each!(i < N, {
                // SAFETY: the caller's promise.
                x[i] = unsafe { extent.load(simd, self.x.add(at + i * S::LANES)) };
                if STREAM {
                    let ahead = if R == 1 { AHEAD / size_of::<T>() } else { R * kernel.row_stride };
                    simd.prefetch(self.x.wrapping_add(at + i * S::LANES + ahead).cast());
                }
            });
            let u = C::argument(simd, x, simd.splat(kernel.alpha), simd.splat(kernel.shift));
            let mut y = C::value(simd, u, T::DTYPE);
            each!(i < N, {
                y[i] = y[i].mul_add(gamma[i], beta[i]);
            });
            // SAFETY: the caller's promise; streamed whole vectors begin on a vector's boundary, behind the head.
            unsafe { extent.store_all(simd, self.y.add(at), y, STREAM) };
        }
    }
}
