//! Room for rows that are written past the cache later, in whole lines, by [`stream_out`](super::io::stream_out).

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::cpu::stored::Stored;

/// The most rows that are worked on side by side.
pub(crate) const ROWS: usize = 4;
/// Bytes of a row that are staged at once.
const STAGE_BYTES: usize = 1024;

/// Where some rows are written: column 0 of the first of them, which need not exist, and the distance of the rows.
#[derive(Clone, Copy)]
pub(crate) struct Output<T> {
    pub(crate) first: *mut T,
    pub(crate) row_stride: usize,
    /// Whether what is stored there goes past the cache at once.
    pub(crate) stream: bool,
}

/// Room for a part of the rows that are worked on side by side.
#[repr(align(64))]
pub(crate) struct Stage<T>(MaybeUninit<[u8; ROWS * STAGE_BYTES]>, PhantomData<T>);

impl<T: Stored> Stage<T> {
    /// Columns of a row that it has room for.
    pub(crate) const COLUMNS: usize = STAGE_BYTES / size_of::<T>();

    pub(crate) const fn new() -> Self {
        Self(MaybeUninit::uninit(), PhantomData)
    }

    /// Its first value of row `r`.
    pub(crate) const fn row(&mut self, r: usize) -> *mut T {
        self.0.as_mut_ptr().cast::<T>().wrapping_add(r * Self::COLUMNS)
    }
}
