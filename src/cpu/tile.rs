//! Tiles of f32 that stay in the first-level cache: a value for each column of a block, in the order of a kernel's lanes.

use core::mem::MaybeUninit;

use super::lanes::{Lanes, MAX_LANES, Register};
use super::rows::{At, store_part};
use super::stored::Stored;

/// Columns of a block: what a kernel prepares and sums up at once.
pub(crate) const BLOCK: usize = 1024;
/// Values of a tile: those of a block with a ragged vector at both ends.
pub(crate) const TILE: usize = BLOCK + 2 * MAX_LANES;

/// `N` tiles side by side.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Tiles<const N: usize>([MaybeUninit<[f32; TILE]>; N]);

impl<const N: usize> Tiles<N> {
    pub(crate) const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; N])
    }

    /// Each tile, to be written before it is read.
    #[inline(always)]
    pub(crate) fn slots(&mut self) -> [Slots; N] {
        // SAFETY: the caller has the tiles for as long as it has the slots.
        self.0.each_mut().map(|tile| unsafe { Slots::new(tile.as_mut_ptr().cast()) })
    }
}

/// Where a value of each column of a block stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots(*mut f32);

impl Slots {
    /// # Safety
    /// Until the last use, `first` is valid for the slots of the columns that are asked for, and nobody else touches them.
    #[inline(always)]
    pub(crate) const unsafe fn new(first: *mut f32) -> Self {
        Self(first)
    }

    /// The slots that begin so many values further on.
    #[inline(always)]
    pub(crate) const fn shifted(self, values: usize) -> Self {
        Self(self.0.wrapping_add(values))
    }

    /// The first slot.
    #[inline(always)]
    pub(crate) const fn pointer(self) -> *const f32 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn load<R: Register>(self, at: At) -> Lanes<R> {
        // SAFETY: the promise of `new`.
        unsafe { Lanes::load(self.0.wrapping_add(at.slot)) }
    }

    #[inline(always)]
    pub(crate) fn store<R: Register>(self, at: At, v: Lanes<R>) {
        // SAFETY: the promise of `new`.
        unsafe { v.store(self.0.wrapping_add(at.slot)) }
    }

    /// As [`Self::load`], of the columns `at` alone, fewer than a vector has lanes.
    #[inline(always)]
    pub(crate) fn load_part<R: Register>(self, at: At) -> Lanes<R> {
        // SAFETY: the promise of `new`.
        unsafe { f32::load_part(self.0.wrapping_add(at.slot), at.n) }
    }

    /// As [`Self::store`], of the columns `at` alone, fewer than a vector has lanes.
    #[inline(always)]
    pub(crate) fn store_part<R: Register>(self, at: At, v: Lanes<R>) {
        // SAFETY: the promise of `new`.
        unsafe { store_part(self.0.wrapping_add(at.slot), at.n, v) }
    }
}
