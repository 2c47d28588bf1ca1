//! y = gamma·f(alpha·x + shift) + beta.

use core::marker::PhantomData;

use crate::cpu::curve::Curve;
use crate::cpu::io::{Extent, head};
use crate::cpu::line::{Across, Affine, Along, Blocks, for_blocks};
use crate::cpu::param::Param;
use crate::cpu::plan::Tile;
use crate::cpu::simd::{Kernel, Lanes, Simd};
use crate::dtype::Element;

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

impl<T: Element, P: Element, C: Curve> Kernel for Forward<T, P, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Tile { rows, cols } = self.tile;
        for row in rows.begin..rows.end {
            let at = row * self.row_stride;
            if self.inner == 1 {
                let affine = Along { gamma: self.gamma, beta: self.beta };
                // SAFETY: the tile's rows and columns lie in the tensor, and parameters have one value a column.
                unsafe { self.line(simd, at, cols.begin, cols.end, affine) };
                continue;
            }
            for c in cols.begin..cols.end {
                // SAFETY: parameters have one value a column; run `c` of a row in the tile lies in the tensor.
                unsafe {
                    let gamma = self.gamma.splat(simd, c);
                    let beta = self.beta.splat(simd, c);
                    self.line(simd, at + c * self.inner, 0, self.inner, Across { gamma, beta });
                }
            }
        }
        if self.stream {
            simd.fence();
        }
    }
}

impl<T: Element, P: Element, C: Curve> Forward<T, P, C> {
    /// The elements from `begin` to `end` of the line that begins at element `at`.
    ///
    /// # Safety
    /// They lie in the tensor; `affine` has parameters for them.
    #[inline(always)]
    unsafe fn line<S: Simd, A: Affine<S>>(&self, simd: S, at: usize, begin: usize, end: usize, affine: A) {
        // SAFETY: the line lies in the tensor.
        unsafe {
            let line = Line { kernel: *self, x: self.x.add(at), y: self.y.add(at), affine };
            let head = if self.stream { head::<S, T>(line.y.add(begin), end - begin) } else { 0 };
            for_blocks(simd, &line, begin, end, head);
        }
    }
}

/// A line, with the kernel's own copy of what does not vary, so that it stays in registers.
struct Line<T, P, C, A> {
    kernel: Forward<T, P, C>,
    x: *const T,
    y: *mut T,
    affine: A,
}

impl<S: Simd, T: Element, P: Element, C: Curve, A: Affine<S>> Blocks<S> for Line<T, P, C, A> {
    #[inline(always)]
    unsafe fn block<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize) {
        let kernel = &self.kernel;
        let mut x = [simd.splat(0.0); N];
        for (i, x) in x.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *x = unsafe { extent.load(simd, self.x.add(c + i * S::LANES)) };
        }
        let u = C::argument(simd, x, simd.splat(kernel.alpha), simd.splat(kernel.shift));
        let f = C::value(simd, u, T::NARROW);
        // SAFETY: the caller's promise.
        let (gamma, beta) = unsafe { self.affine.at::<E, N>(simd, extent, c) };
        for i in 0..N {
            let y = f[i].mul_add(gamma[i], beta[i]);
            // SAFETY: the caller's promise; streamed whole vectors begin on a vector's boundary, behind the head.
            unsafe { extent.store(simd, self.y.add(c + i * S::LANES), y, kernel.stream) };
        }
    }
}
