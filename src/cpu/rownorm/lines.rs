//! How the lines that a norm works on lie in memory: rows, or runs of channels-first data, where each lane of a
//! vector is a line of its own.

use crate::cpu::each::{each, repeat};
use crate::cpu::io::{Extent, Full, Tail};
use crate::cpu::param::Param;
use crate::cpu::plan::{RUN_TILE, Range};
use crate::cpu::simd::{Lanes, Simd};
use crate::cpu::sum::{Terms, lane_sums, row_sums};
use crate::dtype::Storage;

/// How far ahead of the reads memory is asked for where the output is streamed, in bytes: the processor alone keeps too
/// few lines under way.
const AHEAD: usize = 4096;

/// Where the vectors of a block stand, in elements from the first of its lines.
pub(super) trait Address: Copy {
    /// Asks for what will be read soon; `p` is what is read now. For the pass that is first to read a line.
    fn prefetch<S: Simd, T: Storage>(self, simd: S, p: *const T);
    /// Vector `i` of the block at column `c`.
    fn offset(self, c: usize, i: usize, lanes: usize) -> usize;
    /// The parameters of vector `i` of the block at column `c`.
    ///
    /// # Safety
    /// The columns exist.
    unsafe fn parameter<S: Simd, P: Storage, E: Extent>(
        self,
        simd: S,
        extent: E,
        p: Param<P>,
        c: usize,
        i: usize,
    ) -> S::F;
}

/// Vectors one behind the other; `STREAM` if memory is asked for ahead of the reads.
#[derive(Clone, Copy)]
pub(super) struct Along<const STREAM: bool>;

impl<const STREAM: bool> Address for Along<STREAM> {
    #[inline(always)]
    fn prefetch<S: Simd, T: Storage>(self, simd: S, p: *const T) {
        if STREAM {
            simd.prefetch(p.wrapping_byte_add(AHEAD).cast());
        }
    }
    #[inline(always)]
    fn offset(self, c: usize, i: usize, lanes: usize) -> usize {
        c + i * lanes
    }
    #[inline(always)]
    unsafe fn parameter<S: Simd, P: Storage, E: Extent>(
        self,
        simd: S,
        extent: E,
        p: Param<P>,
        c: usize,
        i: usize,
    ) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { p.load::<S, E, 1>(simd, extent, c + i * S::LANES)[0] }
    }
}

/// Vectors side by side in the run of one column.
#[derive(Clone, Copy)]
pub(super) struct Across {
    inner: usize,
}

impl Address for Across {
    #[inline(always)]
    fn prefetch<S: Simd, T: Storage>(self, _: S, _: *const T) {}
    #[inline(always)]
    fn offset(self, c: usize, i: usize, lanes: usize) -> usize {
        c * self.inner + i * lanes
    }
    #[inline(always)]
    unsafe fn parameter<S: Simd, P: Storage, E: Extent>(
        self,
        simd: S,
        _: E,
        p: Param<P>,
        c: usize,
        _: usize,
    ) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { p.splat(simd, c) }
    }
}

/// Lines whose statistics fill `N` vectors.
pub(super) trait Lines<S: Simd, const N: usize>: Copy {
    /// Where the terms of a sum stand.
    type Address: Address;
    /// Where the terms of a sum stand.
    fn address(self) -> Self::Address;
    /// Sums over all columns.
    ///
    /// # Safety
    /// The lines lie in what `terms` reads.
    unsafe fn sums<const K: usize, M: Terms<S, K>>(self, simd: S, terms: &M) -> [[S::F; N]; K];
    /// One value for each line.
    ///
    /// # Safety
    /// `p` is valid for the reads.
    unsafe fn load<T: Storage>(self, simd: S, p: *const T) -> [S::F; N];
    /// One value for each line.
    ///
    /// # Safety
    /// `p` is valid for the writes.
    unsafe fn store(self, simd: S, p: *mut f32, values: [S::F; N]);
}

/// One row; its statistics stand in all lanes.
#[derive(Clone, Copy)]
pub(super) struct Row<const STREAM: bool> {
    pub(super) cols: usize,
}

impl<S: Simd, const STREAM: bool> Lines<S, 1> for Row<STREAM> {
    type Address = Along<STREAM>;
    #[inline(always)]
    fn address(self) -> Along<STREAM> {
        Along
    }
    #[inline(always)]
    unsafe fn sums<const K: usize, M: Terms<S, K>>(self, simd: S, terms: &M) -> [[S::F; 1]; K] {
        // SAFETY: the caller's promise.
        let totals = unsafe { row_sums(simd, terms, 0, self.cols) };
        let mut sums: [[S::F; 1]; K] = repeat(repeat(simd.splat(0.0)));
        each!(k < K, {
            sums[k] = [simd.splat(totals[k])];
        });
        sums
    }
    #[inline(always)]
    unsafe fn load<T: Storage>(self, simd: S, p: *const T) -> [S::F; 1] {
        // SAFETY: the caller's promise.
        [simd.splat(unsafe { (*p).widen() })]
    }
    #[inline(always)]
    unsafe fn store(self, simd: S, p: *mut f32, [value]: [S::F; 1]) {
        // SAFETY: the caller's promise.
        unsafe { Tail(1).store(simd, p, value, false) };
    }
}

/// Neighbouring lines of channels-first data, one a lane.
#[derive(Clone, Copy)]
pub(super) struct Runs<E> {
    pub(super) extent: E,
    pub(super) cols: usize,
    pub(super) inner: usize,
}

impl<S: Simd, E: Extent, const N: usize> Lines<S, N> for Runs<E> {
    type Address = Across;
    #[inline(always)]
    fn address(self) -> Across {
        Across { inner: self.inner }
    }
    #[inline(always)]
    unsafe fn sums<const K: usize, M: Terms<S, K>>(self, simd: S, terms: &M) -> [[S::F; N]; K] {
        // SAFETY: the caller's promise.
        unsafe { lane_sums(simd, terms, self.extent, self.cols) }
    }
    #[inline(always)]
    unsafe fn load<T: Storage>(self, simd: S, p: *const T) -> [S::F; N] {
        let mut values = repeat(simd.splat(0.0));
        each!(i < N, {
            // SAFETY: the caller's promise.
            values[i] = unsafe { self.extent.load(simd, p.add(i * S::LANES)) };
        });
        values
    }
    #[inline(always)]
    unsafe fn store(self, simd: S, p: *mut f32, values: [S::F; N]) {
        each!(i < N, {
            // SAFETY: the caller's promise.
            unsafe { self.extent.store(simd, p.add(i * S::LANES), values[i], false) };
        });
    }
}

/// Work on `V` vectors of each of `N` groups of lines, at one column.
pub(super) trait ColumnBlock<S: Simd> {
    /// Works on the `V` vectors from column `c` on.
    ///
    /// # Safety
    /// The extent's vectors lie in the lines.
    unsafe fn block<E: Extent, const V: usize>(&self, simd: S, extent: E, c: usize);
}

/// `N` groups of lines that are written side by side, column by column.
pub(super) trait Columns<S: Simd>: Copy {
    /// The first vector of group `i` at column `c`, in elements from the first line.
    fn offset(self, c: usize, i: usize) -> usize;
    /// Works on every column, `V` vectors at a time where there are as many; the first `head` columns go by
    /// themselves.
    ///
    /// # Safety
    /// The columns lie in the lines; `head` is less than a vector, and no more than the line.
    unsafe fn walk<B: ColumnBlock<S>, const V: usize>(self, simd: S, blocks: &B, head: usize);
    /// The parameters of the `V` vectors at column `c`.
    ///
    /// # Safety
    /// The columns exist.
    unsafe fn parameters<P: Storage, E: Extent, const V: usize>(
        self,
        simd: S,
        extent: E,
        p: Param<P>,
        c: usize,
    ) -> [S::F; V];
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
    #[inline(always)]
    fn offset(self, c: usize, i: usize) -> usize {
        i * self.stride + c
    }
    #[inline(always)]
    unsafe fn walk<B: ColumnBlock<S>, const V: usize>(self, simd: S, blocks: &B, head: usize) {
        let mut c = 0;
        // SAFETY: every extent lies in the row.
        unsafe {
            if head > 0 {
                blocks.block::<_, 1>(simd, Tail(head), c);
                c += head;
            }
            while V > 1 && self.cols - c >= V * S::LANES {
                blocks.block::<_, V>(simd, Full, c);
                c += V * S::LANES;
            }
            while self.cols - c >= S::LANES {
                blocks.block::<_, 1>(simd, Full, c);
                c += S::LANES;
            }
            if c < self.cols {
                blocks.block::<_, 1>(simd, Tail(self.cols - c), c);
            }
        }
    }
    #[inline(always)]
    unsafe fn parameters<P: Storage, E: Extent, const V: usize>(
        self,
        simd: S,
        extent: E,
        p: Param<P>,
        c: usize,
    ) -> [S::F; V] {
        // SAFETY: the caller's promise.
        unsafe { p.load(simd, extent, c) }
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
    #[inline(always)]
    fn offset(self, c: usize, i: usize) -> usize {
        c * self.inner + i * S::LANES
    }
    #[inline(always)]
    unsafe fn walk<B: ColumnBlock<S>, const V: usize>(self, simd: S, blocks: &B, _: usize) {
        for c in 0..self.cols {
            // SAFETY: the column lies in the lines.
            unsafe { blocks.block::<_, 1>(simd, self.extent, c) };
        }
    }
    #[inline(always)]
    unsafe fn parameters<P: Storage, X: Extent, const V: usize>(
        self,
        simd: S,
        _: X,
        p: Param<P>,
        c: usize,
    ) -> [S::F; V] {
        // SAFETY: the caller's promise.
        repeat(unsafe { p.splat(simd, c) })
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

/// Work on the lines of channels-first data.
pub(super) trait RunKernel<S: Simd> {
    /// Works on `N` vectors of lines, from position `s` of S of row `n` on.
    ///
    /// # Safety
    /// The lines lie in the tensor.
    unsafe fn runs<E: Extent, const N: usize>(&self, simd: S, runs: Runs<E>, n: usize, s: usize);
}

/// Works on the tiles of [`RUN_TILE`] positions that `tiles` counts, row by row of N.
///
/// # Safety
/// The tiles lie in the tensor.
#[inline(always)]
pub(super) unsafe fn for_runs<S: Simd, K: RunKernel<S>>(
    simd: S,
    kernel: &K,
    tiles: Range,
    cols: usize,
    inner: usize,
) {
    let tiles_a_row = inner.div_ceil(RUN_TILE);
    for tile in tiles.begin..tiles.end {
        let (n, begin) = (tile / tiles_a_row, tile % tiles_a_row * RUN_TILE);
        let end = inner.min(begin + RUN_TILE);
        let full = Runs { extent: Full, cols, inner };
        let mut s = begin;
        // SAFETY: every position from `begin` to `end` lies in the row.
        unsafe {
            while S::REGISTERS >= 32 && end - s >= 4 * S::LANES {
                kernel.runs::<_, 4>(simd, full, n, s);
                s += 4 * S::LANES;
            }
            while end - s >= S::LANES {
                kernel.runs::<_, 1>(simd, full, n, s);
                s += S::LANES;
            }
            if s < end {
                kernel.runs::<_, 1>(simd, Runs { extent: Tail(end - s), cols, inner }, n, s);
            }
        }
    }
}
