//! Where the elements of a tensor stand.

/// Elements from the begin of one row to that of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strides {
    /// From token to token; without heads a token is a row.
    pub(crate) row: usize,
    /// From head to head; the elements of a row where there is one head.
    pub(crate) head: usize,
}

/// Rows of elements: each token has some rows, its heads. Without heads each token is one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) tokens: usize,
    /// Rows of a token, at least 1.
    pub(crate) heads: usize,
    /// Elements from one token to the next.
    pub(crate) row_stride: usize,
    /// Elements from one head to the next; those of a row where there is one head.
    pub(crate) head_stride: usize,
    /// Elements of a row.
    pub(crate) len: usize,
}

impl Layout {
    /// Elements from the first of a token to its last.
    pub(crate) const fn extent(&self) -> usize {
        (self.heads - 1) * self.head_stride + self.len
    }

    /// Elements from the first of the tensor to its last.
    pub(crate) const fn span(&self) -> usize {
        if self.tokens == 0 { 0 } else { (self.tokens - 1) * self.row_stride + self.extent() }
    }

    /// The same, with the gap behind the last token.
    pub(crate) const fn closed(&self) -> usize {
        self.tokens * self.row_stride
    }

    /// Whether the rows of all tokens are equally far apart.
    pub(crate) const fn is_even(&self) -> bool {
        self.heads == 1 || self.row_stride == self.heads * self.head_stride
    }

    /// Elements from one row of a token to the next; without heads from token to token.
    pub(crate) const fn stride(&self) -> usize {
        if self.heads == 1 { self.row_stride } else { self.head_stride }
    }

    /// The index of the first element of row `row`, counted through all heads of all tokens.
    pub(crate) const fn row(&self, row: usize) -> usize {
        row / self.heads * self.row_stride + row % self.heads * self.head_stride
    }
}
