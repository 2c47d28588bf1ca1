//! A quantised y: y = v / s, rounded to one byte.
//!
//! The kernels of the ops know nothing of it. A portion of x that the first-level cache holds is widened to f32, which is exact;
//! the op makes v of it there; v is divided and rounded from there into y. With a scale for each row, the row's largest |v| is
//! found first: in the same portion if it holds a whole row, and else by computing v twice, so that nothing is allocated and x
//! comes from memory once as long as a cache holds a few rows.

mod code;
mod first;
mod kernels;
mod rows;

use core::any::Any;
use core::marker::PhantomData;

use super::launch::Launch;
use super::level::Isa;
use super::plan::{self, Range};
use super::residual::Residual;
use super::rows::{Columns, Rows};
use super::stored::Stored;
use super::tensor::Tensor;
use super::threads::Shared;
use super::tile::Slots;
use crate::Quant;
use crate::layout::Layout;
use crate::ops::ForwardPtrs;
pub(crate) use first::{PerPosition, row};
use kernels::{Bytes, Quantise, Scales, Widen};

/// What an op makes of a portion of x, and keeps of the rows that it belongs to. `rows` and `columns` are those of the tensor;
/// channels-first rows are channels, and columns are positions.
pub(crate) trait Values<T: Stored>: Copy {
    /// What is kept of some rows, or of some positions.
    type Kept: Default;

    /// Takes the parameters of a group of rows.
    fn take_group(&mut self, group: usize, cols: usize);
    /// Looks at the rows before any of them is written, and saves what is asked for.
    fn look(&self, isa: Isa, rows: Range, kept: &mut Self::Kept);
    /// Writes v of some columns of some rows of those that were looked at, of which the first has number `number`.
    /// Returns whether the room for the parameters is filled.
    fn write(&self, isa: Isa, kept: &Self::Kept, number: usize, portion: &Portion) -> bool;
    /// As [`Self::look`], of some positions of index `n` of N.
    fn look_first(&self, isa: Isa, n: usize, positions: Range, kept: &mut Self::Kept);
    /// As [`Self::write`], of the same positions of some channels.
    fn write_first(&self, isa: Isa, kept: &Self::Kept, n: usize, portion: &Portion);
}

/// A portion of the tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portion {
    /// x as f32, and where v goes: rows of which the first is that of `rows`. They may be the same.
    pub(crate) x: Rows<f32>,
    pub(crate) v: Rows<f32>,
    pub(crate) rows: Range,
    pub(crate) columns: Columns,
    /// Room for the parameters of these columns, which is filled if it is `fresh`.
    pub(crate) tiles: [Slots; 2],
    pub(crate) fresh: bool,
}

/// The arguments of a call that do not depend on the op.
#[derive(Clone, Copy, Debug)]
struct Call<T> {
    isa: Isa,
    /// x, or its sum with the residual.
    x: Tensor<T>,
    residual: Option<Residual<T>>,
    quant: Quant,
    y: Bytes,
    /// Where the rows of y stand.
    y_layout: Layout,
    /// The caller's scale, where the rows have none of their own.
    scale: f32,
    /// Null if the scale is the caller's.
    scales: *mut f32,
    cols: usize,
    inner: usize,
}

/// A scale that the caller gives.
fn given(scale: *const f32) -> f32 {
    // SAFETY: a checked argument is null or one valid f32.
    if scale.is_null() { 1.0 } else { super::lanes::quiet(unsafe { *scale }) }
}

/// The forward of a problem that quantises y.
pub(super) fn forward<T: Stored, V: Values<T>>(launch: Launch<'_, ForwardPtrs>, quant: Quant, values: V) {
    let Launch { cpu, problem, arguments: wanted, .. } = launch;
    let team = cpu.team(problem.elements());
    let call = Shared((
        Call::<T> {
            isa: cpu.isa,
            // SAFETY: the arguments are checked; tasks work on disjoint parts.
            x: unsafe { launch.like_x(wanted.input().cast_mut()) },
            residual: Residual::of(&launch, false),
            quant,
            y: Bytes { first: wanted.y, stride: problem.y_layout().stride() },
            y_layout: problem.y_layout(),
            scale: given(wanted.scale),
            scales: wanted.scales,
            cols: problem.cols(),
            inner: problem.inner(),
        },
        values,
    ));
    // A row with a scale of its own is one task's, and so is one that has statistics.
    let whole = !wanted.scales.is_null() || !problem.op().is_pointwise() || problem.inner() > 1;
    let grid = match whole {
        true => plan::norm_forward(problem, team.threads()),
        false => plan::pointwise_forward(problem, team.threads()),
    };
    team.for_each(grid.tiles(), |task| {
        let ((call, mut values), mut tile) = (call.get(), grid.tile(task));
        if tile.group > 0 {
            values.take_group(tile.group, call.cols);
        }
        if whole {
            tile.cols = Range { begin: 0, end: call.cols };
        }
        if call.inner > 1 {
            first::run(&call, &values, tile.rows);
        } else {
            rows::run(&call, &values, tile);
        }
    });
}

impl<T: Stored> Call<T> {
    /// The rows of y from `row` on, as far as its token goes.
    const fn y(&self, row: usize) -> Bytes {
        self.y.shifted(self.y_layout.row(row))
    }

    const fn finds_scales(&self) -> bool {
        !self.scales.is_null()
    }

    /// Some columns of the first rows of `from` as f32: where they are, or in the stage.
    fn widened(&self, from: Rows<T>, n: usize, columns: Columns, stage: Rows<f32>) -> Rows<f32> {
        // A type that is f32 stays where it is.
        if let Some(rows) = (&from as &dyn Any).downcast_ref::<Rows<f32>>() {
            return *rows;
        }
        self.isa.run(Widen { from, to: stage, n, columns });
        stage
    }

    /// Writes some columns of the first `n` rows of `v` to the rows of `y`.
    fn quantise(&self, v: Rows<f32>, y: Bytes, n: usize, columns: Columns, scales: Scales<'_>) {
        macro_rules! run {
            ($code:ident) => {
                self.isa.run(Quantise::<code::$code> { v, y, n, columns, scales, code: PhantomData })
            };
        }
        match self.quant {
            Quant::I8 => run!(I8),
            Quant::F8E4M3 => run!(F8E4M3),
            Quant::F8E5M2 => run!(F8E5M2),
        }
    }
}
