//! What measurements decided, in one place: how many rows a kernel works on side by side, when a tile pays, what is streamed
//! in which portions. `docs/performance.md` has the measurements.

use super::lanes::Register;
use super::stored::Stored;

/// Rows that share what is loaded for their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Σd and Σd² of a row.
    Statistics,
    /// Σx² of a row.
    Squares,
    /// y of a norm.
    NormForward,
    /// Sums of a row for the backward of a norm: four for each row.
    Projections,
    /// dx of a norm, and the sums of columns.
    NormBackward,
    /// y of DyT and Derf.
    PointwiseForward,
}

/// How many rows go side by side: more than the registers hold would be spilled.
#[inline(always)]
pub(crate) const fn rows<R: Register, T: Stored>(work: Work) -> usize {
    match work {
        Work::Statistics | Work::NormForward | Work::NormBackward => R::ROWS,
        // Two sums of two registers would wait for themselves.
        Work::Squares => {
            if R::ROWS > 1 {
                4
            } else {
                1
            }
        }
        // Four sums of two registers fill half of 16 registers.
        Work::Projections => {
            if R::ROWS > 2 {
                2
            } else {
                1
            }
        }
        // With 16 registers the tables of f32 leave none for a second row.
        Work::PointwiseForward => {
            if R::ROWS == 2 && !T::NARROW {
                1
            } else {
                R::ROWS
            }
        }
    }
}

/// Whether four rows go side by side in the backward of DyT and Derf, and not two: f32 is 4 % faster, on AVX-512.
#[inline(always)]
pub(crate) const fn four_rows_backward<R: Register>() -> bool {
    R::ROWS >= 4
}

/// Rows of a group whose parameters are prepared together, where a row has more columns than a block: the tile then costs
/// a sixteenth of a row.
pub(crate) const GROUP: usize = 16;

/// Rows that go through all blocks of columns before the next ones do, in the forward and backward of DyT and Derf. What comes
/// from memory is read row by row, for the sake of the translation of addresses; and else block by block, so that parameters
/// are prepared once.
#[inline(always)]
pub(crate) const fn pointwise_group(memory: bool, rows: usize) -> usize {
    if memory { GROUP } else { rows }
}

/// Whether parameters of 16 bits are read from a tile of f32: making it takes as long as widening them for some rows. Levels
/// that do not stream have this form alone, for the sake of the code.
#[inline(always)]
pub(crate) const fn tile_pays<R: Register>(rows: usize) -> bool {
    rows >= 16 || !R::STREAMS
}

/// Rows that are asked for ahead where tokens lie apart, instead of `ahead`. The processor follows packed rows by itself, and has
/// to be told early of others: so many bytes before. Whole tokens, so that the rows of a group are all in one; but where a token
/// fills a good part of the first-level cache.
#[inline(always)]
pub(crate) fn ahead_of_tokens(ahead: usize, heads: usize, row_bytes: usize) -> usize {
    if heads * row_bytes > 16 * 1024 {
        return ahead;
    }
    ahead.max(4096 / row_bytes).next_multiple_of(heads)
}

/// Columns of a row that are written past the cache at once: by way of a stage of this many bytes for each row.
pub(crate) const STAGE_BYTES: usize = 2048;

/// Rows of a stage.
pub(crate) const STAGE_ROWS: usize = 4;

/// Plain additions to one accumulator along a row before it is folded: the rounding errors of more would add up when all
/// terms are equal.
pub(crate) const STEPS: usize = 32;

/// Runs a block of code for `$n` rows, `$most` side by side as long as there are so many, the others one by one. `$row` is
/// the first row and `$side` their number, a constant.
macro_rules! side_by_side {
    ($most:expr, $n:expr, |$row:ident, $side:ident| $body:expr) => {{
        let (n, mut $row) = ($n, 0);
        while $most == 4 && n - $row >= 4 {
            const $side: usize = 4;
            $body;
            $row += 4;
        }
        while $most == 2 && n - $row >= 2 {
            const $side: usize = 2;
            $body;
            $row += 2;
        }
        while $row < n {
            const $side: usize = 1;
            $body;
            $row += 1;
        }
    }};
}
pub(crate) use side_by_side;
