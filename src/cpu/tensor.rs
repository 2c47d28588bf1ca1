//! The rows of a whole tensor, which need not be equally far apart.

use super::choices;
use super::lanes::LINE;
use super::plan::Range;
use super::rows::Rows;
use super::stored::Stored;
use crate::Problem;
use crate::layout::Layout;

/// A tensor: tokens of rows that are equally far apart, its heads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensor<T> {
    /// Those of the first token.
    rows: Rows<T>,
    heads: Heads,
    /// Elements from one token to the next.
    token_stride: usize,
}

impl<T: Stored> Tensor<T> {
    /// # Safety
    /// As [`Rows::new`] says, of the elements of the layout, which is one of the problem.
    pub(crate) unsafe fn new(first: *mut T, problem: &Problem, layout: Layout) -> Self {
        let heads = Heads::of(problem);
        // SAFETY: the caller's promise.
        let rows = unsafe { Rows::new(first, layout.stride(), layout.span()) };
        Self { rows, heads, token_stride: layout.row_stride }
    }

    /// The rows from `row` on, as far as its token goes.
    #[inline(always)]
    pub(crate) fn from(self, row: usize) -> Rows<T> {
        let Heads(heads) = self.heads;
        if row < heads {
            return self.rows.from(row);
        }
        self.rows.shifted(row / heads * self.token_stride).from(row % heads)
    }

    /// How far the row `ahead` rows behind row `row` is away from it, in rows that are equally far apart: what is asked for before
    /// it is needed need not be in the same token.
    #[inline(always)]
    pub(crate) fn ahead(self, row: usize, ahead: usize) -> usize {
        if self.heads.is_even() {
            return ahead;
        }
        let Heads(heads) = self.heads;
        let ahead = choices::ahead_of_tokens(ahead, heads, self.rows.stride() * size_of::<T>());
        let begin = |row: usize| row / heads * self.token_stride + row % heads * self.rows.stride();
        (begin(row + ahead) - begin(row)) / self.rows.stride()
    }

    /// The elements of row `row` from index `first` on, as rows `stride` apart.
    #[inline(always)]
    pub(crate) fn run(self, row: usize, first: usize, stride: usize) -> Self {
        let rows = self.from(row).shifted(first).with_stride(stride);
        Self { rows, heads: Heads(usize::MAX), ..self }
    }

    /// How rows are cut at the end of a token.
    #[inline(always)]
    pub(crate) const fn heads(self) -> Heads {
        self.heads
    }

    /// The same tensor, whose whole vectors are written past the cache.
    ///
    /// # Safety
    /// As [`Rows::streamed`] says.
    #[inline(always)]
    pub(crate) const unsafe fn streamed(self) -> Self {
        // SAFETY: the caller's promise.
        Self { rows: unsafe { self.rows.streamed() }, ..self }
    }

    /// Whether whole vectors are written past the cache.
    #[inline(always)]
    pub(crate) const fn streams(self) -> bool {
        self.rows.streams()
    }

    /// Whether all rows come to a line of the cache at the same column.
    #[inline(always)]
    pub(crate) const fn line_up(self) -> bool {
        let even = self.heads.is_even() || (self.token_stride * size_of::<T>()).is_multiple_of(LINE);
        even && self.rows.line_up()
    }

    /// Whether the first row begins at a line of the cache.
    #[inline(always)]
    pub(crate) fn is_at_line(self) -> bool {
        self.rows.is_at_line()
    }

    /// Columns before a line of the cache, less whole vectors, if that is the same for all rows.
    #[inline(always)]
    pub(crate) fn head(self, lanes: usize) -> usize {
        if self.line_up() { self.rows.head(lanes) } else { 0 }
    }

    /// Whether this tensor is not that one.
    #[inline(always)]
    pub(crate) fn apart(self, other: Self) -> bool {
        self.rows.apart(other.rows)
    }
}

/// The rows of a token; no end where the rows of all tokens are equally far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads(usize);

impl Heads {
    const fn of(problem: &Problem) -> Self {
        Self(if problem.is_even() { usize::MAX } else { problem.heads() })
    }

    const fn is_even(self) -> bool {
        self.0 == usize::MAX
    }

    /// `n` rows from `row` on, or fewer, so that they are in one token.
    #[inline(always)]
    pub(crate) const fn within(self, row: usize, n: usize) -> usize {
        let left = if row < self.0 { self.0 - row } else { self.0 - row % self.0 };
        if n < left { n } else { left }
    }

    /// Parts of `step` rows of a range, shorter at its end and at that of a token.
    #[inline(always)]
    pub(crate) fn parts(self, rows: Range, step: usize) -> Parts {
        Parts { rows, step, heads: self }
    }
}

/// What [`Heads::parts`] gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    rows: Range,
    step: usize,
    heads: Heads,
}

impl Iterator for Parts {
    type Item = Range;

    #[inline(always)]
    fn next(&mut self) -> Option<Range> {
        let begin = self.rows.begin;
        let left = self.rows.len();
        if left == 0 {
            return None;
        }
        let n = self.heads.within(begin, if self.step < left { self.step } else { left });
        self.rows.begin = begin + n;
        Some(Range { begin, end: begin + n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Result};

    #[test]
    fn rows_stand_where_the_layout_says() -> Result<()> {
        let builder = Problem::new(Op::Dyt, 3, 5).row_stride(40).heads(4, 7).y_strides(20, 5);
        let problem = builder.build()?;
        let mut values: Vec<f32> = (0..problem.span()).map(|at| at as f32).collect();
        for layout in [problem.layout(), problem.y_layout()] {
            // SAFETY: the values outlive the tensor; the second layout is no longer than the first.
            let tensor = unsafe { Tensor::new(values.as_mut_ptr(), &problem, layout) };
            for row in 0..problem.total_rows() {
                assert_eq!(tensor.from(row).value(0, 0), layout.row(row) as f32);
            }
        }
        Ok(())
    }

    #[test]
    fn what_lies_ahead_is_in_another_token() -> Result<()> {
        let packed =
            Problem::new(Op::Dyt, 9, 8).row_stride(3 * 4 * 8).heads(4, 8).y_strides(4 * 8, 8).build()?;
        // SAFETY: nothing is followed.
        let tensor = |layout| unsafe { Tensor::<f32>::new(core::ptr::null_mut(), &packed, layout) };
        let (x, y) = (tensor(packed.layout()), tensor(packed.y_layout()));
        // 4096 bytes are 128 rows, or 32 tokens.
        assert_eq!([x.ahead(0, 3), x.ahead(2, 128), x.ahead(3, 129)], [384, 384, 396]);
        assert_eq!([y.ahead(0, 3), y.ahead(2, 128), y.ahead(3, 129)], [128, 128, 132]);
        Ok(())
    }

    #[test]
    fn parts_cover_a_range_and_end_with_tokens() {
        for heads in [Heads(1), Heads(3), Heads(8), Heads(usize::MAX)] {
            for (begin, end) in [(0, 0), (0, 1), (2, 9), (5, 40)] {
                let mut at = begin;
                for part in heads.parts(Range { begin, end }, 4) {
                    assert_eq!(part.begin, at);
                    assert!(part.len() >= 1 && part.len() <= 4);
                    assert_eq!(part.begin / heads.0, (part.end - 1) / heads.0, "{heads:?} {part:?}");
                    at = part.end;
                }
                assert_eq!(at, end);
            }
        }
    }
}
