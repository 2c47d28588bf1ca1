//! The sums of one chunk of rows.

use super::lanes::{Lanes, MAX_LANES, Register};
use super::plan;
use super::rows::Columns;
use super::sum::two_sum;
use super::tile::Slots;

/// The sums of one chunk: a value for each column, in the order of a kernel's lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(super) first: [*mut f32; 4],
    /// Sums of each column.
    pub(super) count: usize,
    /// Values of each sum.
    pub(super) values: usize,
    /// Columns.
    pub(super) cols: usize,
    /// Columns of the ragged vector at the begin, if there is one; 0 where the slot of a sum is its column.
    pub(crate) head: usize,
    /// Whether the lanes of a vector of dgamma and dbeta, as stored, are its even columns, then its odd ones.
    pub(super) split: bool,
    /// Whether a kernel has them so, and puts dgamma and dbeta in the order of the columns as it stores them. It does so for
    /// one row alone.
    pub(crate) zipped: bool,
}

impl Sums {
    /// Whether dgamma and dbeta hold the sums.
    #[inline(always)]
    pub(crate) const fn in_place(&self) -> bool {
        self.values == self.cols
    }

    /// Sum `k` of these columns.
    #[inline(always)]
    pub(crate) fn block<R: Register>(&self, k: usize, columns: Columns) -> Slots {
        let begin = if columns.begin == 0 { 0 } else { self.slot::<R>(columns.begin) };
        // SAFETY: there is room for the sums of every chunk, and one task alone touches those of a chunk's columns.
        unsafe { Slots::new(self.first[k].wrapping_add(begin)) }
    }

    /// The slot of column `c`, if lanes stand in the order of memory.
    #[inline(always)]
    fn slot<R: Register>(&self, c: usize) -> usize {
        if c < self.head { c } else { self.head.next_multiple_of(Lanes::<R>::LANES) + c - self.head }
    }

    /// Sets all sums to 0.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.clear_slots(0, self.values);
    }

    /// Sets what lies behind the last column to 0, where the slot of a sum is its column: the second stage reads whole vectors.
    #[inline(always)]
    pub(crate) fn clear_behind(&self) {
        if !self.in_place() {
            self.clear_slots(self.cols, self.cols.next_multiple_of(MAX_LANES));
        }
    }

    /// Sets the sums of some columns to 0, where slots stand in their order. Vectors are read whole: what lies behind the last
    /// column is set too.
    #[inline(always)]
    pub(crate) fn clear_columns(&self, cols: plan::Range) {
        let last = cols.end == self.cols;
        let end = if last { cols.end.next_multiple_of(MAX_LANES) } else { cols.end };
        self.clear_slots(cols.begin, end);
    }

    #[inline(always)]
    fn clear_slots(&self, begin: usize, end: usize) {
        for first in &self.first[..self.count] {
            // SAFETY: as in `block`.
            unsafe { first.add(begin).write_bytes(0, end - begin) }
        }
    }

    /// Adds to the first sums of column `c`, one term each.
    #[inline(always)]
    pub(crate) fn add<R: Register>(&self, c: usize, terms: &[f32]) {
        let (slot, lanes) = (self.slot::<R>(c), Lanes::<R>::LANES);
        let (vector, mut lane) = (slot - slot % lanes, slot % lanes);
        if self.split {
            lane = lane / 2 + lane % 2 * (lanes / 2);
        }
        self.add_at(vector + lane, terms);
    }

    /// Adds to the first two values at `slot`; what rounding takes from them is kept in the other two sums, so that there may
    /// be any number of terms. [`Self::settle`] puts both together.
    #[inline(always)]
    pub(crate) fn add_exactly(&self, slot: usize, terms: [f32; 2]) {
        for (k, term) in terms.into_iter().enumerate() {
            // SAFETY: as in `block`.
            unsafe {
                let (high, low) = (self.first[k].add(slot), self.first[k + 2].add(slot));
                let (sum, error) = two_sum(*high, term);
                (*high, *low) = (sum, *low + error);
            }
        }
    }

    /// Adds what [`Self::add_exactly`] kept apart.
    #[inline(always)]
    pub(crate) fn settle(&self) {
        for slot in 0..self.values {
            for k in 0..2 {
                // SAFETY: as in `block`.
                unsafe {
                    let (high, low) = (self.first[k].add(slot), self.first[k + 2].add(slot));
                    if (*high).is_finite() {
                        *high += *low;
                    }
                }
            }
        }
    }

    /// Adds to the first values at `slot` of the sums, one term each.
    #[inline(always)]
    pub(crate) fn add_at(&self, slot: usize, terms: &[f32]) {
        for (first, term) in self.first[..self.count].iter().zip(terms) {
            // SAFETY: as in `block`.
            unsafe { *first.add(slot) += term }
        }
    }
}
