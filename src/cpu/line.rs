//! The walk along a line of elements, and the parameters that go with it.

use crate::cpu::each::repeat;
use crate::cpu::io::{Extent, Full, Tail};
use crate::cpu::param::Param;
use crate::cpu::simd::Simd;
use crate::dtype::Storage;

/// Work on each element of a line, vector by vector.
pub(crate) trait Blocks<S: Simd> {
    /// Works on the `N` vectors that begin at column `c`.
    ///
    /// # Safety
    /// The extent's `N` vectors lie in the line.
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
    let mut c = begin;
    // SAFETY: every extent lies between `begin` and `end`.
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
        while S::REGISTERS >= 32 && end - c >= 4 * S::LANES {
            blocks.block::<_, 4>(simd, Full, c);
            c += 4 * S::LANES;
        }
        while S::REGISTERS >= 16 && end - c >= 2 * S::LANES {
            blocks.block::<_, 2>(simd, Full, c);
            c += 2 * S::LANES;
        }
        while end - c >= S::LANES {
            blocks.block::<_, 1>(simd, Full, c);
            c += S::LANES;
        }
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

impl<S: Simd, P: Storage> Affine<S> for Along<P> {
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
