//! How the rows of a case stand: heads, strides of y, parameters that change with the row.

use dyt::ProblemBuilder;

/// Options of the layout.
#[derive(Clone, Copy, Debug)]
pub struct Arrangement {
    /// Rows of a token, where that divides the rows of the case.
    pub heads: usize,
    /// Elements behind each head.
    pub head_gap: usize,
    /// Rows that share gamma and beta, where that divides the rows of the case; 0 means all.
    pub param_rows: usize,
    /// Elements behind each row or token of y and behind each of its heads, if it has strides of its own.
    pub y_gaps: Option<(usize, usize)>,
}

impl Arrangement {
    /// Rows that are equally far apart, with parameters for all of them.
    pub const PLAIN: Self = Self { heads: 1, head_gap: 0, param_rows: 0, y_gaps: None };

    /// What cases take in turns: most are plain.
    pub(super) const TURNS: [Self; 13] = [
        Self::PLAIN,
        Self { param_rows: 1, ..Self::PLAIN },
        Self::PLAIN,
        Self { heads: 4, y_gaps: Some((0, 0)), ..Self::PLAIN },
        Self::PLAIN,
        Self { param_rows: 8, ..Self::PLAIN },
        Self { heads: 8, head_gap: 3, param_rows: 2, ..Self::PLAIN },
        Self::PLAIN,
        Self { y_gaps: Some((5, 0)), ..Self::PLAIN },
        Self { param_rows: 1, y_gaps: Some((9, 4)), ..Self::PLAIN },
        Self { heads: 2, head_gap: 1, param_rows: 4, y_gaps: Some((1, 7)) },
        Self::PLAIN,
        Self { heads: 5, head_gap: 64, param_rows: 11, ..Self::PLAIN },
    ];

    /// Tokens that `rows` rows of `inner` positions are; with heads they are fewer.
    #[must_use]
    pub const fn tokens(&self, rows: usize, inner: usize) -> usize {
        rows / self.heads_of(rows, inner)
    }

    const fn heads_of(&self, rows: usize, inner: usize) -> usize {
        if inner == 1 && rows.is_multiple_of(self.heads) { self.heads } else { 1 }
    }

    /// The problem of [`Self::tokens`] with its `rows` rows of `cols` × `inner` elements so arranged, `gap` elements behind each
    /// row or token.
    pub fn of(
        self,
        problem: ProblemBuilder,
        (rows, cols, inner, gap): (usize, usize, usize, usize),
    ) -> ProblemBuilder {
        let (heads, len) = (self.heads_of(rows, inner), cols * inner);
        let strides = |gap, head_gap| (heads * (len + head_gap) + gap, len + head_gap);
        let (row_stride, head_stride) = strides(gap, if heads > 1 { self.head_gap } else { 0 });
        let mut problem = problem.inner(inner).row_stride(row_stride);
        if heads > 1 {
            problem = problem.heads(heads, head_stride);
        }
        if let Some((gap, head_gap)) = self.y_gaps {
            let (row, head) = strides(gap, if heads > 1 { head_gap } else { 0 });
            problem = problem.y_strides(row, head);
        }
        if self.param_rows > 0 && rows.is_multiple_of(self.param_rows) {
            problem = problem.param_rows(self.param_rows);
        }
        problem
    }
}
