//! Where a kernel writes: into the tensor, or into a stage in the first-level cache, from where whole lines go past the cache.
//!
//! A line that is written past the cache is not read first. That needs whole lines, whatever the rows begin at, and the
//! stage has them.

use core::mem::MaybeUninit;

use super::choices::{STAGE_BYTES, STAGE_ROWS};
use super::lanes::{LINE, Lanes, Register};
use super::rows::{Columns, Rows};
use super::stored::Stored;
use super::tensor::Tensor;
use super::tile::{BLOCK, Slots};

/// Whether a vector fills whole lines of the cache. Half-written ones of several rows would drive each other out of the few
/// buffers that they wait in.
const fn whole_lines<R: Register, T>() -> bool {
    R::STREAMS && (Lanes::<R>::LANES * size_of::<T>()).is_multiple_of(LINE)
}

/// Whether two vectors fill a line: a kernel then writes two neighbours of a row one behind the other.
pub(crate) const fn half_lines<R: Register, T>() -> bool {
    R::STREAMS && Lanes::<R>::LANES * size_of::<T>() * 2 == LINE
}

/// How the vectors of a kernel reach lines of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// A head brings them to a boundary, and two halves of a line are written one behind the other.
    Paired,
    /// A head brings them to a boundary.
    Headed,
    /// They begin where the rows begin.
    Plain,
}

/// Room for a block of columns of a few rows.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Stage(MaybeUninit<[u8; STAGE_ROWS * STAGE_BYTES]>);

impl Stage {
    pub(crate) const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// The room as values of f32, to be written before they are read. The caller has it until their last use.
    #[inline(always)]
    pub(crate) fn slots(&mut self) -> Slots {
        // SAFETY: the caller has the room.
        unsafe { Slots::new(self.0.as_mut_ptr().cast()) }
    }

    /// The room as rows of `stride` values, to be written before they are read. The caller has it until their last use.
    #[inline(always)]
    pub(crate) fn rows<T: Stored>(&mut self, stride: usize) -> Rows<T> {
        let values = STAGE_ROWS * STAGE_BYTES / size_of::<T>();
        // SAFETY: the caller has the room.
        unsafe { Rows::new(self.0.as_mut_ptr().cast(), stride, values) }
    }
}

/// What a kernel writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output<T> {
    /// The rows of the tensor.
    Rows(Tensor<T>),
    /// The rows of the tensor, past the cache.
    Streamed(Tensor<T>),
    /// Nowhere: the result is not asked for.
    Nowhere,
}

impl<T: Stored> Output<T> {
    /// The output of a tensor that `rows` is, if it is asked for.
    pub(crate) const fn new(rows: Tensor<T>, wanted: bool, stream: bool) -> Self {
        match (wanted, stream) {
            (false, _) => Self::Nowhere,
            (true, false) => Self::Rows(rows),
            (true, true) => Self::Streamed(rows),
        }
    }

    /// Whether rows go past the cache.
    #[inline(always)]
    pub(crate) const fn streams(&self) -> bool {
        matches!(self, Self::Streamed(_))
    }

    /// The rows of the tensor, if they are asked for.
    #[inline(always)]
    pub(crate) const fn rows(&self) -> Option<Tensor<T>> {
        match self {
            Self::Rows(rows) | Self::Streamed(rows) => Some(*rows),
            Self::Nowhere => None,
        }
    }

    /// Where a kernel of this level writes: rows that line up go past the cache vector by vector, others by way of the stage.
    /// Without a head they need the stage too if they do not begin at a line.
    #[inline(always)]
    pub(crate) fn on_level<R: Register>(self, lines: Lines) -> Self {
        let fill = whole_lines::<R, T>() || lines == Lines::Paired && half_lines::<R, T>();
        match self {
            Self::Streamed(rows)
                if fill && rows.line_up() && (lines != Lines::Plain || rows.is_at_line()) =>
            {
                // SAFETY: from the head on all vectors begin at a line, or at half of one.
                Self::Rows(unsafe { rows.streamed() })
            }
            output => output,
        }
    }

    /// Columns before the first boundary of the output.
    #[inline(always)]
    pub(crate) fn head<R: Register>(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.head(Lanes::<R>::LANES),
            Self::Streamed(_) | Self::Nowhere => 0,
        }
    }

    /// The block of columns from `begin` on, `end` at most, that begins with so many columns before a boundary. `apart` is
    /// whether an element may be written twice, because the output is no input.
    #[inline(always)]
    pub(crate) fn block<R: Register>(&self, begin: usize, end: usize, head: usize, apart: bool) -> Columns {
        let (most, twice) = match self {
            // What goes past the cache is written once.
            Self::Rows(rows) => (BLOCK, apart && !rows.streams()),
            Self::Streamed(_) | Self::Nowhere => (STAGE_BYTES / size_of::<T>(), true),
        };
        let end = end.min(begin + head + most);
        Columns { begin, end, head, overlap: twice && end - begin >= Lanes::<R>::LANES }
    }

    /// Where `columns` of the rows from `row` on are written, a stage's rows at most at once.
    #[inline(always)]
    pub(crate) fn target(&self, row: usize, columns: Columns, stage: &mut Stage) -> Rows<T> {
        match self {
            Self::Rows(rows) => rows.from(row),
            Self::Streamed(_) | Self::Nowhere => {
                stage.rows(STAGE_BYTES / size_of::<T>()).beginning_at(columns.begin)
            }
        }
    }

    /// Takes row `row`, which is number `r` in `target`, out of the stage.
    #[inline(always)]
    pub(crate) fn finish<R: Register>(&self, row: usize, r: usize, columns: Columns, target: Rows<T>) {
        if let Self::Streamed(rows) = self {
            rows.from(row).stream::<R>(0, columns, target.from(r));
        }
    }
}
