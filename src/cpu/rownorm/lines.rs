//! How the lines that a norm works on lie in memory: rows, or runs of channels-first data, where each lane of a
//! vector is a line of its own.

use super::groups::Groups;
use crate::cpu::each::{each, repeat};
use crate::cpu::io::{Extent, Full, Tail};
use crate::cpu::param::Param;
use crate::cpu::plan::{RUN_TILE, Range};
use crate::cpu::simd::{Lanes, Simd};
use crate::cpu::stored::Stored;
use crate::cpu::sum::{Terms, lane_sums, row_sums};

/// How far ahead of the reads memory is asked for where the output is streamed, in bytes: the processor alone keeps too
/// few lines under way.
const AHEAD: usize = 4096;
/// Values of a line that its mean is guessed from, where it has as many.
const SAMPLE: usize = 32;

/// Where the vectors of a block stand, in elements from the first of its lines.
pub(super) trait Address: Copy {
    /// Asks for what will be read soon; `p` is what is read now. For passes that may be the first to read a line.
    fn prefetch<S: Simd, T: Stored>(self, simd: S, p: *const T);
    /// Vector `i` of the block at column `c`.
    fn offset(self, c: usize, i: usize, lanes: usize) -> usize;
    /// The parameters of the vectors of the block at column `c`.
    ///
    /// # Safety
    /// The columns exist.
    unsafe fn parameters<S: Simd, P: Stored, E: Extent, const N: usize>(
        self,
        simd: S,
        extent: E,
        p: Param<P>,
        c: usize,
    ) -> [S::F; N];
}

/// Vectors one behind the other; `STREAM` if memory is asked for ahead of the reads.
#[derive(Clone, Copy)]
pub(super) struct Along<const STREAM: bool>;

impl<const STREAM: bool> Address for Along<STREAM> {
    #[inline(always)]
    fn prefetch<S: Simd, T: Stored>(self, simd: S, p: *const T) {
        if STREAM {
            simd.prefetch(p.wrapping_byte_add(AHEAD).cast());
        }
    }
    #[inline(always)]
    fn offset(self, c: usize, i: usize, lanes: usize) -> usize {
        c + i * lanes
    }
    #[inline(always)]
    unsafe fn parameters<S: Simd, P: Stored, E: Extent, const N: usize>(
        self,
        simd: S,
        extent: E,
        p: Param<P>,
        c: usize,
    ) -> [S::F; N] {
        // SAFETY: the caller's promise.
        unsafe { p.load(simd, extent, c) }
    }
}

/// Vectors side by side in the run of one column.
#[derive(Clone, Copy)]
pub(super) struct Across {
    pub(super) inner: usize,
}

impl Address for Across {
    #[inline(always)]
    fn prefetch<S: Simd, T: Stored>(self, _: S, _: *const T) {}
    #[inline(always)]
    fn offset(self, c: usize, i: usize, lanes: usize) -> usize {
        c * self.inner + i * lanes
    }
    #[inline(always)]
    unsafe fn parameters<S: Simd, P: Stored, E: Extent, const N: usize>(
        self,
        simd: S,
        _: E,
        p: Param<P>,
        c: usize,
    ) -> [S::F; N] {
        // SAFETY: the caller's promise.
        repeat(unsafe { p.splat(simd, c) })
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
    unsafe fn load<T: Stored>(self, simd: S, p: *const T) -> [S::F; N];
    /// The first value of each line at `x` and the average of what a few others differ from it: about the mean, and of
    /// equal values that value itself.
    ///
    /// # Safety
    /// The lines lie in the tensor.
    unsafe fn sample<T: Stored>(self, simd: S, x: *const T) -> [S::F; N];
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
    unsafe fn load<T: Stored>(self, simd: S, p: *const T) -> [S::F; 1] {
        // SAFETY: the caller's promise.
        [simd.splat(unsafe { (*p).widen() })]
    }
    #[inline(always)]
    unsafe fn sample<T: Stored>(self, simd: S, x: *const T) -> [S::F; 1] {
        // Apart, so that the usual number is a constant, and its loop none.
        // SAFETY: the caller's promise.
        [unsafe { if self.cols < SAMPLE { average(simd, x, self.cols) } else { average(simd, x, SAMPLE) } }]
    }
    #[inline(always)]
    unsafe fn store(self, simd: S, p: *mut f32, [value]: [S::F; 1]) {
        // SAFETY: the caller's promise.
        unsafe { Tail(1).store(simd, p, value, false) };
    }
}

/// The first value at `x`, in all lanes, and the average of what the first `n` differ from it.
///
/// # Safety
/// `x` is valid for reads of `n` values, at least one.
#[inline(always)]
unsafe fn average<S: Simd, T: Stored>(simd: S, x: *const T, n: usize) -> S::F {
    // SAFETY: the caller's promise.
    unsafe {
        let (first, mut sum) = (simd.splat((*x).widen()), simd.splat(0.0));
        let mut c = 0;
        while n - c >= S::LANES {
            sum = sum + (Full.load(simd, x.add(c)) - first);
            c += S::LANES;
        }
        if c < n {
            let tail = Tail(n - c);
            sum = sum + tail.keep(simd, tail.load(simd, x.add(c)) - first);
        }
        #[expect(clippy::cast_precision_loss, reason = "32 at the most")]
        let share = simd.splat(sum.sum() / n as f32);
        first + share
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
    unsafe fn load<T: Stored>(self, simd: S, p: *const T) -> [S::F; N] {
        let mut values = repeat(simd.splat(0.0));
        each!(i < N, {
            // SAFETY: the caller's promise.
            values[i] = unsafe { self.extent.load(simd, p.add(i * S::LANES)) };
        });
        values
    }
    #[inline(always)]
    unsafe fn sample<T: Stored>(self, simd: S, x: *const T) -> [S::F; N] {
        let n = self.cols.min(SAMPLE);
        // SAFETY: the lines have a value, and as many as are read.
        let mut m: [S::F; N] = unsafe { self.load(simd, x) };
        let (first, mut sums): (_, [S::F; N]) = (m, repeat(simd.splat(0.0)));
        for c in 1..n {
            // SAFETY: as above.
            let values: [S::F; N] = unsafe { self.load(simd, x.add(c * self.inner)) };
            each!(i < N, {
                sums[i] = sums[i] + (values[i] - first[i]);
            });
        }
        #[expect(clippy::cast_precision_loss, reason = "32 at the most")]
        let n = simd.splat(n as f32);
        each!(i < N, {
            m[i] = first[i] + sums[i] / n;
        });
        m
    }
    #[inline(always)]
    unsafe fn store(self, simd: S, p: *mut f32, values: [S::F; N]) {
        each!(i < N, {
            // SAFETY: the caller's promise.
            unsafe { self.extent.store(simd, p.add(i * S::LANES), values[i], false) };
        });
    }
}

/// Work on the lines of channels-first data.
pub(super) trait RunKernel<S: Simd> {
    /// Works on `N` vectors of lines, from position `s` of S of row `n` on; false, and nothing written but statistics, if
    /// f32 may not hold the squares of one.
    ///
    /// # Safety
    /// The lines lie in the tensor.
    unsafe fn runs<E: Extent, const N: usize>(&self, simd: S, runs: Runs<E>, n: usize, s: usize) -> bool;
    /// Works on one line whose squares f32 may not hold.
    ///
    /// # Safety
    /// As [`Self::runs`].
    unsafe fn single(&self, n: usize, s: usize);
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
        let mut groups = Groups::new(Range { begin, end });
        while let Some((s, room)) = groups.peek() {
            // SAFETY: every position from `begin` to `end` lies in the row.
            let (lines, done) = unsafe {
                if S::REGISTERS >= 32 && room >= 4 * S::LANES {
                    (4 * S::LANES, kernel.runs::<_, 4>(simd, full, n, s))
                } else if room >= S::LANES {
                    (S::LANES, kernel.runs::<_, 1>(simd, full, n, s))
                } else {
                    (room, kernel.runs::<_, 1>(simd, Runs { extent: Tail(room), cols, inner }, n, s))
                }
            };
            if groups.pass(lines, done) {
                // SAFETY: the line lies in the tensor.
                unsafe { kernel.single(n, s) };
            }
        }
    }
}
