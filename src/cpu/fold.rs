//! The second stage of the backward: partial sums of chunks, added in their order, become the gradients.

use crate::cpu::each::each;
use crate::cpu::io::{Extent, Full, Tail};
use crate::cpu::param::Param;
use crate::cpu::plan::{self, Range};
use crate::cpu::simd::{Kernel, Lanes, Simd};
use crate::cpu::stored::Stored;
use crate::cpu::sum::{Compensated, Terms, row_sums};
use crate::cpu::threads::Team;
use crate::ops::BackwardPtrs;

use super::level::Isa;

/// Columns of one task.
const COLUMNS: usize = 1024;

/// The sums of one chunk, one value a column; null where they are not asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    pub(crate) dgamma: *mut f32,
    pub(crate) dbeta: *mut f32,
    pub(crate) dalpha: *mut f32,
    pub(crate) dshift: *mut f32,
}

impl Slots {
    /// No sum at all.
    pub(crate) const NONE: Self = Self {
        dgamma: core::ptr::null_mut(),
        dbeta: core::ptr::null_mut(),
        dalpha: core::ptr::null_mut(),
        dshift: core::ptr::null_mut(),
    };

    /// Each sum: of dgamma, dbeta, dalpha and dshift.
    #[inline(always)]
    pub(crate) const fn all(self) -> [*mut f32; 4] {
        [self.dgamma, self.dbeta, self.dalpha, self.dshift]
    }

    /// Sets the sums of these columns to 0.
    ///
    /// # Safety
    /// They are valid for writes, and no other thread touches them.
    #[inline(always)]
    pub(crate) unsafe fn clear(self, cols: Range) {
        for slot in self.all() {
            if !slot.is_null() {
                // SAFETY: the caller's promise.
                unsafe { slot.add(cols.begin).write_bytes(0, cols.len()) };
            }
        }
    }
}

/// The partial sums of a call: chunks × slots × cols.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partials {
    base: *mut f32,
    chunks: usize,
    slots: usize,
    cols: usize,
    /// Threads that they are added up by.
    team: Team,
    /// Whether one chunk is all there is, and its sums are the gradients: they are then made in place.
    direct: bool,
}

// SAFETY: tasks write the sums of disjoint chunks or columns.
unsafe impl Send for Partials {}
// SAFETY: as above.
unsafe impl Sync for Partials {}

impl Partials {
    /// The sums of `chunk` that `wanted` asks for.
    pub(crate) fn chunk(&self, chunk: usize, wanted: &BackwardPtrs) -> Slots {
        let at = |slot: usize, output: *mut f32| {
            if output.is_null() || self.direct && slot < 2 { output } else { self.slot(chunk, slot) }
        };
        Slots {
            dgamma: at(0, wanted.dgamma),
            dbeta: at(1, wanted.dbeta),
            dalpha: at(2, wanted.dalpha),
            dshift: at(3, wanted.dshift),
        }
    }

    const fn slot(&self, chunk: usize, slot: usize) -> *mut f32 {
        // Within the workspace, and never followed where the op has no such slot.
        self.base.wrapping_add((chunk * self.slots + slot) * self.cols)
    }

    /// Adds up the chunks and writes, or adds to, the gradients that are asked for.
    ///
    /// # Safety
    /// Every chunk has written the sums that are asked for; the outputs and gamma are as `BackwardPtrs` says.
    pub(crate) unsafe fn finish<P: Stored>(self, isa: Isa, wanted: &BackwardPtrs, accumulate: bool) {
        let outputs = Slots {
            dgamma: wanted.dgamma,
            dbeta: wanted.dbeta,
            // The columns of the last two are added up below; until then they stay in the first chunk's place.
            dalpha: self.first(2, wanted.dalpha),
            dshift: self.first(3, wanted.dshift),
        };
        let fold = Fold { partials: self, outputs, accumulate };
        let tasks = if self.direct { 0 } else { self.cols.div_ceil(COLUMNS) };
        self.team.for_each(tasks, |task| fold.columns(isa, task));
        for (slot, output) in [(2, wanted.dalpha), (3, wanted.dshift)] {
            if output.is_null() {
                continue;
            }
            let empty = self.chunks == 0;
            let dot = Dot { gamma: Param::<P>::gamma(wanted.gamma), sums: self.slot(0, slot) };
            let sum = if empty { 0.0 } else { isa.run(Whole { dot, cols: self.cols }) };
            // SAFETY: the output is one valid f32.
            unsafe { *output = if accumulate { *output + sum } else { sum } };
        }
    }

    const fn first(&self, slot: usize, output: *mut f32) -> *mut f32 {
        if output.is_null() || self.chunks == 0 { core::ptr::null_mut() } else { self.slot(0, slot) }
    }
}

/// Adds up the chunks of each column.
#[derive(Clone, Copy)]
struct Fold {
    partials: Partials,
    outputs: Slots,
    accumulate: bool,
}

// SAFETY: tasks write disjoint columns.
unsafe impl Send for Fold {}
// SAFETY: as above.
unsafe impl Sync for Fold {}

impl Fold {
    fn columns(&self, isa: Isa, task: usize) {
        let begin = task * COLUMNS;
        let cols = Range { begin, end: (begin + COLUMNS).min(self.partials.cols) };
        let add_to = [self.accumulate, self.accumulate, false, false];
        for (slot, (output, add_to)) in self.outputs.all().into_iter().zip(add_to).enumerate() {
            if !output.is_null() {
                isa.run(Column { partials: self.partials, slot, output, cols, add_to });
            }
        }
    }
}

/// Adds up the chunks of some columns of one slot.
struct Column {
    partials: Partials,
    slot: usize,
    output: *mut f32,
    cols: Range,
    add_to: bool,
}

impl Kernel for Column {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut c = self.cols.begin;
        while self.cols.end - c >= S::LANES {
            self.block(simd, Full, c);
            c += S::LANES;
        }
        if c < self.cols.end {
            self.block(simd, Tail(self.cols.end - c), c);
        }
    }
}

impl Column {
    #[inline(always)]
    fn block<S: Simd, E: Extent>(&self, simd: S, extent: E, c: usize) {
        let zero = simd.splat(0.0);
        let mut sum = Compensated::new(zero);
        for chunk in 0..self.partials.chunks {
            let partial = self.partials.slot(chunk, self.slot).wrapping_add(c);
            // SAFETY: the extent lies in the columns of this chunk's sums, which the first stage has written.
            sum.add(unsafe { extent.load(simd, partial.cast_const()) });
        }
        let mut value = sum.lanes(simd.splat(1.0));
        // SAFETY: the output has a value for each column; it is the partial sums themselves, or apart from them.
        unsafe {
            let output = self.output.add(c);
            if self.add_to {
                value = value + extent.load(simd, output.cast_const());
            }
            extent.store(simd, output, value, false);
        }
    }
}

/// Σ gamma·sum over columns.
struct Dot<P> {
    gamma: Param<P>,
    sums: *const f32,
}

impl<S: Simd, P: Stored> Terms<S, 1> for Dot<P> {
    #[inline(always)]
    unsafe fn add<E: Extent, const N: usize>(&self, simd: S, extent: E, c: usize, sums: &mut [[S::F; N]; 1]) {
        // SAFETY: the caller's promise.
        let gamma: [S::F; N] = unsafe { self.gamma.load(simd, extent, c) };
        each!(i < N, {
            // SAFETY: the caller's promise.
            let term = unsafe { extent.load(simd, self.sums.add(c + i * S::LANES)) };
            sums[0][i] = gamma[i].mul_add(term, sums[0][i]);
        });
    }
}

/// A sum over all columns.
struct Whole<P> {
    dot: Dot<P>,
    cols: usize,
}

impl<P: Stored> Kernel for Whole<P> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        // SAFETY: the sums and gamma have `cols` values.
        unsafe { row_sums(simd, &self.dot, 0, self.cols)[0] }
    }
}

/// The partial sums of a call in the caller's workspace.
pub(crate) fn partials(base: *mut f32, grid: &plan::Grid, problem: &crate::Problem, team: Team) -> Partials {
    let (chunks, slots, cols) = (grid.row_parts(), plan::slots(problem.op()), problem.cols());
    let team = if plan::worth_threads(chunks * slots * cols) { team } else { Team::ALONE };
    let direct = chunks == 1 && !problem.accumulate();
    Partials { base, chunks, slots, cols, team, direct }
}
