//! The walk along a line of elements, and the parameters that go with it.

use crate::cpu::each::repeat;
use crate::cpu::io::{Extent, Full, Tail};
use crate::cpu::param::Param;
use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;

/// Work on each element of a line, or of some that lie side by side, vector by vector.
pub(crate) trait Blocks<S: Simd> {
    /// Works on the `N` vectors of each line that begin at column `c`.
    ///
    /// # Safety
    /// The extent's `N` vectors lie in the lines.
    unsafe fn block<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize);
}

/// The vectors of [`for_blocks`]' widest blocks.
pub(crate) const fn widest<S: Simd>() -> usize {
    if S::REGISTERS >= 32 {
        4
    } else if S::REGISTERS >= 16 {
        2
    } else {
        1
    }
}

/// Walks from `begin` to `end`; the first `head` elements go by themselves, so that blocks begin behind them.
///
/// # Safety
/// The elements lie in the line; so many elements before a line of the cache, where blocks are streamed.
#[inline(always)]
pub(crate) unsafe fn for_blocks<S: Simd, B: Blocks<S>>(
    simd: S,
    blocks: &B,
    begin: usize,
    end: usize,
    head: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut c = for_head(simd, blocks, begin, end, head);
        if widest::<S>() >= 4 {
            c = for_whole::<_, _, 4>(simd, blocks, c, end);
        }
        if widest::<S>() >= 2 {
            c = for_whole::<_, _, 2>(simd, blocks, c, end);
        }
        for_rest(simd, blocks, c, end);
    }
}

/// Walks the first `head` elements from `c` on, as far as `end`; returns where it ends.
///
/// # Safety
/// As [`for_blocks`].
#[inline(always)]
pub(crate) unsafe fn for_head<S: Simd, B: Blocks<S>>(
    simd: S,
    blocks: &B,
    mut c: usize,
    end: usize,
    head: usize,
) -> usize {
    // SAFETY: every extent lies before `end`.
    unsafe {
        if head > 0 {
            let ragged = (head % S::LANES).min(end - c);
            if ragged > 0 {
                blocks.block::<_, 1>(simd, Tail(ragged), c);
                c += ragged;
            }
            for _ in 0..(head / S::LANES).min((end - c) / S::LANES) {
                blocks.block::<_, 1>(simd, Full, c);
                c += S::LANES;
            }
        }
    }
    c
}

/// Walks from `c` towards `end` by whole blocks of `N` vectors; returns where it ends.
///
/// # Safety
/// As [`for_blocks`].
#[inline(always)]
pub(crate) unsafe fn for_whole<S: Simd, B: Blocks<S>, const N: usize>(
    simd: S,
    blocks: &B,
    mut c: usize,
    end: usize,
) -> usize {
    while end - c >= N * S::LANES {
        // SAFETY: the extent lies before `end`.
        unsafe { blocks.block::<_, N>(simd, Full, c) };
        c += N * S::LANES;
    }
    c
}

/// Walks from `c` to `end`, a vector at a time.
///
/// # Safety
/// As [`for_blocks`].
#[inline(always)]
pub(crate) unsafe fn for_rest<S: Simd, B: Blocks<S>>(simd: S, blocks: &B, c: usize, end: usize) {
    // SAFETY: the extents lie before `end`.
    unsafe {
        let c = for_whole::<_, _, 1>(simd, blocks, c, end);
        if c < end {
            blocks.block::<_, 1>(simd, Tail(end - c), c);
        }
    }
}

/// gamma and beta of the vectors at hand.
pub(crate) trait Affine<S: Simd>: Copy {
    /// gamma and beta of the `N` vectors that begin at column `c`.
    ///
    /// # Safety
    /// The extent's `N` vectors lie in the line.
    unsafe fn at<E: Extent, const N: usize>(self, simd: S, extent: E, c: usize) -> ([S::F; N], [S::F; N]);
}

/// One value a column.
#[derive(Clone, Copy)]
pub(crate) struct Along<P> {
    pub(crate) gamma: Param<P>,
    pub(crate) beta: Param<P>,
}

impl<S: Simd, P: Stored> Affine<S> for Along<P> {
    #[inline(always)]
    unsafe fn at<E: Extent, const N: usize>(self, simd: S, extent: E, c: usize) -> ([S::F; N], [S::F; N]) {
        // SAFETY: the caller's promise.
        unsafe { (self.gamma.load(simd, extent, c), self.beta.load(simd, extent, c)) }
    }
}

/// One value for the whole line.
#[derive(Clone, Copy)]
pub(crate) struct Across<F> {
    pub(crate) gamma: F,
    pub(crate) beta: F,
}

impl<S: Simd> Affine<S> for Across<S::F> {
    #[inline(always)]
    unsafe fn at<E: Extent, const N: usize>(self, _: S, _: E, _: usize) -> ([S::F; N], [S::F; N]) {
        (repeat(self.gamma), repeat(self.beta))
    }
}
