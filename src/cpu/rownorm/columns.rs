//! The walk along the columns of lines that are written side by side: rows, or runs of channels-first data.

use super::lines::{Across, Address, Along, Runs};
use crate::cpu::each::{each, repeat};
use crate::cpu::io::Extent;
use crate::cpu::line::{Blocks, for_head, for_rest, for_whole};
use crate::cpu::simd::{Lanes, Simd};

/// `N` groups of lines that are written side by side, column by column.
pub(super) trait Columns<S: Simd>: Copy {
    /// Where the parameters of the vectors of a block stand.
    type Address: Address;
    /// Where the parameters of the vectors of a block stand.
    fn address(self) -> Self::Address;
    /// The first vector of group `i` at column `c`, in elements from the first line.
    fn offset(self, c: usize, i: usize) -> usize;
    /// Works on every column, `V` vectors at a time where there are as many; the first `head` columns go by
    /// themselves.
    ///
    /// # Safety
    /// The columns lie in the lines; so many elements before a line of the cache, where blocks are streamed.
    unsafe fn walk<B: Blocks<S>, const V: usize>(self, simd: S, blocks: &B, head: usize);
    /// What the sums of the `V` vectors at column `c` begin with: each row adds to them in turn, so that their bits do
    /// not depend on how many rows are worked on side by side.
    ///
    /// # Safety
    /// `p` is valid for reads of the columns.
    unsafe fn sums<E: Extent, const V: usize>(self, simd: S, extent: E, p: *const f32, c: usize)
    -> [S::F; V];
    /// Puts back the sums, which began as [`Self::sums`] says.
    ///
    /// # Safety
    /// `p` is valid for reads and writes of the columns.
    unsafe fn put<E: Extent, const V: usize>(
        self,
        simd: S,
        extent: E,
        p: *mut f32,
        c: usize,
        sums: [S::F; V],
    );
}

/// Rows `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) stride: usize,
    pub(super) cols: usize,
}

impl<S: Simd> Columns<S> for Rows {
    type Address = Along<false>;
    #[inline(always)]
    fn address(self) -> Along<false> {
        Along
    }
    #[inline(always)]
    fn offset(self, c: usize, i: usize) -> usize {
        i * self.stride + c
    }
    #[inline(always)]
    unsafe fn walk<B: Blocks<S>, const V: usize>(self, simd: S, blocks: &B, head: usize) {
        // SAFETY: the caller's promise: from 0 to `cols` lies in the row.
        unsafe {
            let mut c = for_head(simd, blocks, 0, self.cols, head);
            if V > 1 {
                c = for_whole::<_, _, V>(simd, blocks, c, self.cols);
            }
            for_rest(simd, blocks, c, self.cols);
        }
    }
    #[inline(always)]
    unsafe fn sums<E: Extent, const V: usize>(
        self,
        simd: S,
        extent: E,
        p: *const f32,
        c: usize,
    ) -> [S::F; V] {
        let mut sums = repeat(simd.splat(0.0));
        each!(v < V, {
            // SAFETY: the caller's promise.
            sums[v] = unsafe { extent.load(simd, p.add(c + v * S::LANES)) };
        });
        sums
    }
    #[inline(always)]
    unsafe fn put<E: Extent, const V: usize>(
        self,
        simd: S,
        extent: E,
        p: *mut f32,
        c: usize,
        sums: [S::F; V],
    ) {
        // SAFETY: the caller's promise.
        unsafe { extent.store_all(simd, p.add(c), sums, false) };
    }
}

impl<S: Simd, E: Extent> Columns<S> for Runs<E> {
    type Address = Across;
    #[inline(always)]
    fn address(self) -> Across {
        Across { inner: self.inner }
    }
    #[inline(always)]
    fn offset(self, c: usize, i: usize) -> usize {
        c * self.inner + i * S::LANES
    }
    #[inline(always)]
    unsafe fn walk<B: Blocks<S>, const V: usize>(self, simd: S, blocks: &B, _: usize) {
        for c in 0..self.cols {
            // SAFETY: the column lies in the lines.
            unsafe { blocks.block::<_, 1>(simd, self.extent, c) };
        }
    }
    #[inline(always)]
    unsafe fn sums<X: Extent, const V: usize>(self, simd: S, _: X, _: *const f32, _: usize) -> [S::F; V] {
        repeat(simd.splat(0.0))
    }
    #[inline(always)]
    unsafe fn put<X: Extent, const V: usize>(
        self,
        simd: S,
        extent: X,
        p: *mut f32,
        c: usize,
        sums: [S::F; V],
    ) {
        each!(v < V, {
            // SAFETY: the caller's promise.
            unsafe { *p.add(c) += extent.keep(simd, sums[v]).sum() };
        });
    }
}
