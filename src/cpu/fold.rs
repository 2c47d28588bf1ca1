//! The sums of the backward over rows. Each chunk of rows has its own, in the caller's workspace; in the second stage they
//! are added in the order of the chunks, and become the gradients.

use super::lanes::{Arithmetic, Kernel, LINE, Lanes, MAX_LANES, Register};
use super::launch::Launch;
use super::level::Isa;
use super::param::{Param, Sources, Values, with_values};
use super::plan;
use super::rows::{At, Columns, store_part};
use super::stage::{Lines, Output};
use super::stored::Stored;
use super::sum::Compensated;
use super::sums::Sums;
use super::threads::{Shared, Team};
use super::tile::{BLOCK, Slots, Tiles};
use crate::Problem;
use crate::cpu::choices::STEPS;
use crate::ops::BackwardPtrs;

/// Values of one sum for all columns, with ragged vectors at both ends and whole lines of the cache.
const fn room(cols: usize) -> usize {
    cols.next_multiple_of(MAX_LANES) + MAX_LANES
}

/// Bytes of the workspace of a backward. Where there cannot be so many, no workspace is large enough.
pub(crate) fn workspace_bytes(problem: &Problem) -> usize {
    let values =
        plan::chunks(problem).saturating_mul(plan::sums(problem)).saturating_mul(room(problem.cols()));
    // As many as it takes to begin at a line of the cache.
    if values == 0 { 0 } else { values.saturating_mul(size_of::<f32>()).saturating_add(LINE) }
}

/// The sums of a call: groups × chunks × sums × room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partials {
    base: *mut f32,
    /// Groups of rows that have gradients of their own.
    groups: usize,
    /// Chunks of each group.
    chunks: usize,
    cols: usize,
    /// Sums of each column.
    count: usize,
    split: bool,
    team: Team,
    /// dgamma and dbeta where their sums are made in place, or null.
    direct: [*mut f32; 2],
}

// SAFETY: tasks write the sums of disjoint chunks or columns.
unsafe impl Send for Partials {}
// SAFETY: as above.
unsafe impl Sync for Partials {}

impl Partials {
    /// Those of a backward with so many chunks in each group of rows. `split` is whether kernels keep even and odd columns apart.
    pub(crate) fn new(
        launch: &Launch<'_, BackwardPtrs>,
        chunks: usize,
        split: bool,
        sign: f32,
        team: Team,
    ) -> Self {
        let (problem, workspace) = (launch.problem, launch.workspace);
        let (count, cols, groups) = (plan::sums(problem), problem.cols(), problem.param_groups());
        let to_line = workspace.addr().wrapping_neg() % LINE / size_of::<f32>();
        let team = if plan::worth_threads(groups * chunks * count * cols) { team } else { Team::ALONE };
        // The sums of one chunk are the gradients, if they have no other order and no room behind the last column. Those of
        // one row are put in order as they are written.
        let ordered = !split || problem.total_rows() == 1;
        let plain = ordered && cols.is_multiple_of(MAX_LANES) && sign > 0.0;
        let mut direct = [core::ptr::null_mut(); 2];
        if groups == 1 && chunks == 1 && plain && !problem.accumulate() {
            direct = [launch.arguments.dgamma, launch.arguments.dbeta];
        }
        Self { base: workspace.wrapping_add(to_line), groups, chunks, cols, count, split, team, direct }
    }

    /// Whether some sums are made in place: a norm then begins with a whole vector; DyT and Derf store ragged vectors by parts.
    pub(crate) const fn is_direct(&self) -> bool {
        !(self.direct[0].is_null() && self.direct[1].is_null())
    }

    /// Those of one group of rows alone.
    fn group(self, group: usize) -> Self {
        let values = self.chunks * self.count * room(self.cols);
        Self { base: self.base.wrapping_add(group * values), groups: 1, ..self }
    }

    /// The sums of `chunk`; a norm that begins with a ragged vector sets their head.
    pub(crate) fn chunk(&self, chunk: usize) -> Sums {
        let room = room(self.cols);
        let mut first = [0, 1, 2, 3].map(|k| self.base.wrapping_add((chunk * self.count + k) * room));
        for (first, direct) in first.iter_mut().zip(self.direct) {
            if !direct.is_null() {
                *first = direct;
            }
        }
        let direct = self.is_direct();
        let values = if direct { self.cols } else { room };
        let Self { count, cols, split, .. } = *self;
        Sums { first, count, values, cols, head: 0, split: split && !direct, zipped: split && direct }
    }

    /// Adds up the chunks and writes, or adds to, the gradients that are asked for. The kernels wrote dx to `dx`; the sums
    /// of dgamma are `sign` times what they are to be.
    ///
    /// # Safety
    /// Every chunk has been written; the outputs and gamma are as `BackwardPtrs` says.
    pub(crate) unsafe fn finish<T: Stored>(
        self,
        isa: Isa,
        dx: Option<Output<T>>,
        gamma: Param,
        sign: f32,
        wanted: &BackwardPtrs,
        accumulate: bool,
    ) {
        let &BackwardPtrs { mut dgamma, mut dbeta, dalpha, dshift, .. } = wanted;
        if self.chunks == 0 && accumulate {
            // Nothing is added, and so nothing is written.
            return;
        }
        if self.is_direct() {
            (dgamma, dbeta) = (core::ptr::null_mut(), core::ptr::null_mut());
        }
        // Without rows there is no workspace, and nothing but zeros.
        let totals = [dalpha, dshift].map(|output| !output.is_null() && self.chunks > 0);
        let fold = Shared(Fold::<T> {
            partials: self,
            dx,
            gamma,
            // 0 has none.
            sign: if self.chunks == 0 { 1.0 } else { sign },
            accumulate,
            outputs: [dgamma, dbeta],
            totals,
            block: 0,
        });
        let blocks = self.cols.div_ceil(BLOCK);
        let nothing = dgamma.is_null() && dbeta.is_null() && totals == [false; 2];
        let tasks = if nothing { 0 } else { self.groups * blocks };
        self.team.for_each(tasks, |task| {
            let (fold, group, block) = (fold.get(), task / blocks, task % blocks);
            isa.run(Fold { block, ..fold.of_group(group) });
        });
        for (k, output) in [(2, dalpha), (3, dshift)] {
            if output.is_null() {
                continue;
            }
            let mut total = Compensated::ZERO;
            for task in 0..if self.chunks > 0 { self.groups * blocks } else { 0 } {
                // SAFETY: the tasks have written them.
                total.add(unsafe { *self.group(task / blocks).total(k, task % blocks) });
            }
            // SAFETY: the output is one valid f32.
            unsafe { *output = if accumulate { *output + total.total() } else { total.total() } };
        }
    }

    /// Where the total of block `block` of sum `k` is left: in the place of its first column, whose sums are added by then.
    fn total(&self, k: usize, block: usize) -> *mut f32 {
        // The slot of such a sum is its column.
        self.base.wrapping_add(k * room(self.cols) + block * BLOCK)
    }
}

/// Adds up the chunks of a block of columns, of one group of rows.
#[derive(Clone, Copy)]
struct Fold<T> {
    partials: Partials,
    dx: Option<Output<T>>,
    gamma: Param,
    sign: f32,
    accumulate: bool,
    /// dgamma and dbeta, or null.
    outputs: [*mut f32; 2],
    /// Whether the sums of dalpha and of dshift are asked for.
    totals: [bool; 2],
    block: usize,
}

impl<T: Stored> Kernel for Fold<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let head = self.dx.map_or(0, |dx| dx.on_level::<R>(Lines::Headed).head::<R>());
        let cols = self.partials.cols;
        let begin = if self.block == 0 { 0 } else { head + self.block * BLOCK };
        let end = cols.min(head + (self.block + 1) * BLOCK);
        if begin >= end {
            return;
        }
        let columns = Columns { begin, end, head: if begin == 0 { head } else { 0 }, overlap: false };
        for (k, output) in self.outputs.into_iter().enumerate() {
            if !output.is_null() {
                let factor = Lanes::splat(if k == 0 { self.sign } else { 1.0 });
                // SAFETY: the output has a value a column.
                unsafe { self.write::<R>(k, head, columns, factor, output) };
            }
        }
        for k in [2, 3] {
            if self.totals[k - 2] {
                // SAFETY: gamma has a value a column.
                let total = unsafe { self.dot::<R>(k, columns) };
                // SAFETY: this task alone touches the place.
                unsafe { *self.partials.total(k, self.block) = total };
            }
        }
    }
}

impl<T: Stored> Fold<T> {
    /// The same for a group of rows.
    fn of_group(self, group: usize) -> Self {
        let columns = group * self.partials.cols;
        Self {
            partials: self.partials.group(group),
            gamma: self.gamma.further(columns),
            outputs: self.outputs.map(|p| if p.is_null() { p } else { p.wrapping_add(columns) }),
            ..self
        }
    }

    /// Sum `k` of these columns in the first chunk.
    #[inline(always)]
    fn first<R: Register>(&self, k: usize, head: usize, columns: Columns) -> Slots {
        Sums { head, ..self.partials.chunk(0) }.block::<R>(k, columns)
    }

    /// The sum over all chunks of the columns `at`, of which `first` is that of the first chunk.
    #[inline(always)]
    fn sum<R: Register>(&self, first: Slots, at: At) -> Lanes<R> {
        let Partials { chunks, count, cols, .. } = self.partials;
        match chunks {
            0 => return Lanes::splat(0.0),
            1 => return first.load(at),
            _ => {}
        }
        let mut sum = Compensated::new(Lanes::splat(0.0));
        for chunk in 0..chunks {
            sum.add(first.shifted(chunk * count * room(cols)).load(at));
        }
        sum.lanes()
    }

    /// # Safety
    /// The output has a value a column.
    #[inline(always)]
    unsafe fn write<R: Register>(
        &self,
        k: usize,
        head: usize,
        columns: Columns,
        factor: Lanes<R>,
        output: *mut f32,
    ) {
        let first = self.first::<R>(k, head, columns);
        for at in columns.whole::<R>() {
            // SAFETY: the columns exist.
            unsafe { self.put::<R>(output, at, self.sum(first, at) * factor) };
        }
        for at in columns.ragged::<R>() {
            // SAFETY: the columns exist.
            unsafe { self.put::<R>(output, at, self.sum(first, at) * factor) };
        }
    }

    /// Writes, or adds to, the gradients of the columns `at`.
    ///
    /// # Safety
    /// They exist.
    #[inline(always)]
    unsafe fn put<R: Register>(&self, output: *mut f32, at: At, mut sum: Lanes<R>) {
        if self.partials.split {
            sum = sum.zip();
        }
        let p = output.wrapping_add(at.c);
        // SAFETY: the caller's promise.
        unsafe {
            if at.n == Lanes::<R>::LANES {
                f32::store(p, if self.accumulate { f32::load(p) + sum } else { sum });
            } else {
                store_part(p, at.n, if self.accumulate { f32::load_part(p, at.n) + sum } else { sum });
            }
        }
    }

    /// Σ gamma·sum over the columns.
    ///
    /// # Safety
    /// gamma has a value a column.
    #[inline(always)]
    unsafe fn dot<R: Register>(&self, k: usize, columns: Columns) -> f32 {
        let mut tiles = Tiles::<1>::new();
        // SAFETY: the caller's promise.
        let params =
            unsafe { Sources::<T, 1>::new::<R>([self.gamma], tiles.slots(), columns, 1, false, true) };
        let mut total = 0.0;
        with_values!(params, |values| total = self.dot_with::<R, _>(k, columns, values));
        total
    }

    #[inline(always)]
    fn dot_with<R: Register, P: Stored>(&self, k: usize, columns: Columns, gamma: Values<P, 1>) -> f32 {
        let (mut total, zero) = (Compensated::new(Lanes::splat(0.0)), Lanes::splat(0.0));
        let first = self.first::<R>(k, 0, columns);
        let (mut sum, mut steps) = (zero, 0);
        for at in columns.whole::<R>() {
            sum = gamma.load::<R, true>(0, at).mul_add(self.sum(first, at), sum);
            steps += 1;
            if steps == STEPS {
                total.add(sum);
                (sum, steps) = (zero, 0);
            }
        }
        for at in columns.ragged::<R>() {
            let term = gamma.load::<R, false>(0, at) * self.sum(first, at);
            // The lanes behind the last column repeat another.
            sum = sum + term.keep(T::mask(at.n));
        }
        total.add(sum);
        Lanes::sums([total.lanes(), zero, zero, zero])[0]
    }
}
