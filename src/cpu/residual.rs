//! A residual: sum = x + residual, rounded as it is stored, for a portion of the tensor that the op then finds in the
//! first-level cache. The op reads what it would read after an addition of its own, so that every bit is the same.
//!
//! And dsum, which joins dx behind the op: kernels leave dx in f32 where [`Join`] reads it.

use super::choices::{STAGE_BYTES, STAGE_ROWS};
use super::lanes::{Kernel, LINE, Lanes, MAX_LANES, Register};
use super::launch::Launch;
use super::plan::Range;
use super::rows::{At, Columns, Rows};
use super::stage::{Output, Stage};
use super::stored::Stored;
use super::tensor::Tensor;
use super::tile::Slots;
use crate::ops::ForwardPtrs;

/// The tensors of the addition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Residual<T> {
    x: Tensor<T>,
    residual: Tensor<T>,
    sum: Tensor<T>,
    /// Whether the tensors are in memory: the rows to come are then asked for.
    memory: bool,
    /// Whether sum goes past the cache. The op then reads a copy in the stage.
    past: bool,
}

impl<T: Stored> Residual<T> {
    /// That of a call, if it has one. A sum in place is not written past the cache, since its lines were read already.
    pub(crate) fn of(launch: &Launch<'_, ForwardPtrs>, memory: bool) -> Option<Self> {
        let &ForwardPtrs { x, residual, sum, .. } = launch.arguments;
        if sum.is_null() {
            return None;
        }
        let in_place = [x, residual].contains(&sum.cast_const());
        // SAFETY: the arguments are checked; tasks work on disjoint parts.
        let rows = |p: *mut u8| unsafe { launch.like_x(p) };
        Some(Self {
            x: rows(x.cast_mut()),
            residual: rows(residual.cast_mut()),
            sum: rows(sum),
            memory,
            past: memory && !in_place,
        })
    }

    /// The same, with sum written by way of the cache if rows of `cols` columns do not fit the stage.
    pub(crate) fn of_whole_rows(self, cols: usize) -> Self {
        Self { past: self.past && stage_rows::<T>(cols) > 0, ..self }
    }

    /// Whether the op reads the stage.
    #[inline(always)]
    pub(crate) const fn is_staged(&self) -> bool {
        self.past
    }

    /// Whole rows of `cols` columns that are added at once: `most`, or fewer that the stage has room for.
    #[inline(always)]
    pub(crate) fn rows_at_once(&self, cols: usize, most: usize) -> usize {
        if self.past { most.min(stage_rows::<T>(cols)) } else { most }
    }

    /// The columns that are added at once, of those that the op works on. What the op writes may lie where it reads: no
    /// element is written twice then.
    #[inline(always)]
    pub(crate) fn columns(&self, columns: Columns) -> Columns {
        if !self.past {
            return columns;
        }
        Columns { overlap: false, ..within(columns, STAGE_BYTES / size_of::<T>()) }
    }

    /// Whether the tensors are in memory.
    #[inline(always)]
    pub(crate) const fn is_in_memory(&self) -> bool {
        self.memory
    }

    /// The elements of row `row` from index `first` on, as rows `stride` apart.
    #[inline(always)]
    pub(crate) fn run(self, row: usize, first: usize, stride: usize) -> Self {
        let run = |tensor: Tensor<T>| tensor.run(row, first, stride);
        Self { x: run(self.x), residual: run(self.residual), sum: run(self.sum), ..self }
    }

    /// The element at index `at` of row `row`.
    pub(crate) fn add_one(&self, row: usize, at: usize) {
        let [x, residual] = [self.x, self.residual].map(|tensor| tensor.from(row).shifted(at).value(0, 0));
        self.sum.from(row).shifted(at).put(0, 0, x + residual);
    }

    /// Some columns of a few rows. Returns where the op reads them, from the first of `rows` on.
    #[inline(always)]
    pub(crate) fn block<R: Register>(
        &self,
        rows: Range,
        columns: Columns,
        ahead: usize,
        stage: &mut Stage,
    ) -> Rows<T> {
        let staged = stage.rows(STAGE_BYTES / size_of::<T>()).beginning_at(columns.begin);
        self.add::<R>(rows, columns, ahead, staged)
    }

    /// Some columns of some rows, which the op reads from sum.
    #[inline(always)]
    pub(crate) fn into_sum<R: Register>(self, rows: Range, columns: Columns) {
        Self { past: false, ..self }.add::<R>(rows, columns, 0, self.sum.from(rows.begin));
    }

    /// Whole rows of `cols` columns, as many as [`Self::rows_at_once`] says. Returns where the op reads them.
    #[inline(always)]
    pub(crate) fn whole<R: Register>(&self, rows: Range, cols: usize, stage: &mut Stage) -> Rows<T> {
        let staged = stage.rows(row_values::<T>(cols));
        let ahead = self.x.ahead(rows.begin, rows.len());
        self.add::<R>(rows, Columns::plain(0, cols), ahead, staged)
    }

    #[inline(always)]
    fn add<R: Register>(&self, rows: Range, columns: Columns, ahead: usize, staged: Rows<T>) -> Rows<T> {
        let n = rows.len();
        let to = if self.past { staged } else { self.sum.from(rows.begin) };
        let (x, residual) = (self.x.from(rows.begin), self.residual.from(rows.begin));
        let ahead = if self.memory { ahead } else { 0 };
        let columns = Columns { overlap: false, ..columns };
        let past = self.past.then(|| self.sum.from(rows.begin));
        // SAFETY: the processor has this level.
        unsafe { R::run(Add { x, residual, to, past, n, columns, ahead }) }
        to
    }
}

/// As many columns as the room of `values` has, a multiple of lines behind the head: the next block begins at a boundary of the
/// output, too.
#[inline(always)]
fn within(columns: Columns, values: usize) -> Columns {
    let most = if columns.head == 0 { values } else { values - MAX_LANES };
    Columns { end: columns.end.min(columns.begin + columns.head + most), ..columns }
}

/// Values from the begin of a row in the stage to that of the next one.
const fn row_values<T>(cols: usize) -> usize {
    cols.next_multiple_of(LINE / size_of::<T>())
}

/// Whole rows that the stage has room for.
const fn stage_rows<T>(cols: usize) -> usize {
    STAGE_ROWS * STAGE_BYTES / size_of::<T>() / row_values::<T>(cols)
}

/// Adds some columns of `n` rows.
struct Add<T> {
    x: Rows<T>,
    residual: Rows<T>,
    to: Rows<T>,
    /// Where what `to` has goes past the cache.
    past: Option<Rows<T>>,
    n: usize,
    columns: Columns,
    /// How many rows further on the same columns are asked for; none if 0.
    ahead: usize,
}

impl<T: Stored> Kernel for Add<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for row in 0..self.n {
            for at in self.columns.whole::<R>() {
                self.vector::<R, true>(row, at);
            }
            for at in self.columns.ragged::<R>() {
                self.vector::<R, false>(row, at);
            }
            if let Some(past) = self.past {
                past.stream::<R>(row, self.columns, self.to.from(row));
            }
        }
    }
}

impl<T: Stored> Add<T> {
    #[inline(always)]
    fn vector<R: Register, const WHOLE: bool>(&self, row: usize, at: At) {
        if self.ahead > 0 {
            self.x.prefetch::<R, WHOLE>(row + self.ahead, at);
            self.residual.prefetch::<R, WHOLE>(row + self.ahead, at);
        }
        let sum = self.x.load::<R, WHOLE>(row, at) + self.residual.load::<R, WHOLE>(row, at);
        self.to.store::<R, WHOLE, false>(row, at, sum);
    }
}

/// Values of dx in f32 from one row of the stage to the next.
const WIDE_ROW: usize = STAGE_BYTES / size_of::<f32>();

/// dsum joins dx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joins<T> {
    dsum: Tensor<T>,
    dx: Tensor<T>,
}

impl<T: Stored> Joins<T> {
    /// Those of a call that has a dsum. dx is written as the output says, but for one that goes past the cache by way of the
    /// stage, which holds dx in f32.
    #[inline(always)]
    pub(crate) fn new(dsum: Option<Tensor<T>>, dx: Output<T>) -> Option<Self> {
        Some(Self { dsum: dsum?, dx: dx.rows()? })
    }

    /// The columns that the stage has room for, of those that the op works on.
    #[inline(always)]
    pub(crate) fn columns(columns: Columns) -> Columns {
        // A ragged vector takes as much room as a whole one.
        within(columns, WIDE_ROW - MAX_LANES)
    }

    /// Writes dx of some rows, of which the first one of the stage is row `first` of the tensor.
    #[inline(always)]
    pub(crate) fn write<R: Register>(
        &self,
        first: usize,
        rows: Range,
        columns: Columns,
        ahead: usize,
        wide: Wide,
    ) {
        let (dsum, dx) = (self.dsum.from(first), self.dx.from(first));
        // SAFETY: the processor has this level.
        unsafe { R::run(Join { dsum, dx, wide, rows, columns, ahead }) }
    }
}

/// dx in f32, in the order of the lanes: rows of the stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide(Slots);

impl Wide {
    /// In the stage, which the caller has until the last use.
    #[inline(always)]
    pub(crate) fn new(stage: &mut Stage) -> Self {
        Self(stage.slots())
    }

    #[inline(always)]
    fn row(self, row: usize) -> Slots {
        self.0.shifted(row * WIDE_ROW)
    }

    #[inline(always)]
    pub(crate) fn store<R: Register>(self, row: usize, at: At, v: Lanes<R>) {
        self.row(row).store(at, v);
    }
}

/// Writes dx, or leaves it in f32 for dsum. Levels that stream have that in the form for memory alone.
#[inline(always)]
pub(crate) fn put<R: Register, T: Stored, const WHOLE: bool, const PAST: bool>(
    dx: Rows<T>,
    wide: Option<Wide>,
    row: usize,
    at: At,
    v: Lanes<R>,
) {
    match wide {
        Some(wide) if const { PAST || !R::STREAMS } => wide.store(row, at, v),
        _ => dx.store::<R, WHOLE, PAST>(row, at, v),
    }
}

/// Adds dsum to some columns of some rows.
struct Join<T> {
    dsum: Rows<T>,
    dx: Rows<T>,
    wide: Wide,
    rows: Range,
    columns: Columns,
    /// How many rows further on the same columns are asked for.
    ahead: usize,
}

impl<T: Stored> Kernel for Join<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for row in self.rows.begin..self.rows.end {
            for at in self.columns.whole::<R>() {
                self.vector::<R, true>(row, at);
            }
            for at in self.columns.ragged::<R>() {
                self.vector::<R, false>(row, at);
            }
        }
    }
}

impl<T: Stored> Join<T> {
    #[inline(always)]
    fn vector<R: Register, const WHOLE: bool>(&self, row: usize, at: At) {
        self.dsum.prefetch::<R, WHOLE>(row + self.ahead, at);
        let v = self.wide.row(row).load(at) + self.dsum.load::<R, WHOLE>(row, at);
        if const { R::STREAMS } {
            self.dx.store::<R, WHOLE, true>(row, at, v);
        } else {
            self.dx.store::<R, WHOLE, false>(row, at, v);
        }
    }
}
