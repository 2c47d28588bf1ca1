//! Where the rows of tensors lie: y and dy have strides of their own.

use super::Params;
use crate::layout::Layout;
use crate::{Argument, Problem};

/// Tokens of so many heads that kernels count rows in 32 bits.
const MOST_HEADS: u64 = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    x: Layout,
    y: Layout,
}

impl Rows {
    /// Without heads where the rows of all tokens are equally far apart.
    pub(super) const fn of(problem: &Problem) -> Self {
        let (x, y) = (problem.layout(), problem.y_layout());
        if x.is_even() && y.is_even() { Self { x: flat(x), y: flat(y) } } else { Self { x, y } }
    }

    const fn layout(&self, argument: Argument) -> &Layout {
        match argument {
            Argument::Y | Argument::Dy => &self.y,
            _ => &self.x,
        }
    }

    /// Rows that lie within so many elements wherever they begin; at least 1.
    pub(super) fn within(&self, elements: u64) -> u64 {
        within(&self.x, elements).min(within(&self.y, elements))
    }

    /// The first element of rows in a tensor, and how far they reach.
    pub(super) const fn range(&self, argument: Argument, first: u64, rows: u64) -> (u64, u64) {
        let layout = self.layout(argument);
        let begin = layout.row(first as usize);
        let end = layout.row((first + rows - 1) as usize) + layout.len;
        (begin as u64, (end - begin) as u64)
    }

    /// Whether each row begins at a multiple of `v` elements.
    pub(super) fn begin_at_multiples(&self, v: usize) -> bool {
        [&self.x, &self.y].iter().all(|layout| {
            let of_tokens = layout.tokens < 2 || layout.row_stride.is_multiple_of(v);
            of_tokens && (layout.heads < 2 || layout.head_stride.is_multiple_of(v))
        })
    }

    /// Whether kernels can count the heads of a token.
    pub(super) const fn are_countable(&self) -> bool {
        self.x.heads as u64 <= MOST_HEADS
    }

    /// `params` with the strides of a part of the rows.
    pub(super) const fn params(&self, first: u64, rows: u64, params: Params) -> Params {
        let heads = self.x.heads as u64;
        let first_head = first % heads;
        if first_head + rows <= heads {
            // Within one token; its stride may be beyond 32 bits.
            let (row_stride, y_row_stride) = (self.x.head_stride as u32, self.y.head_stride as u32);
            return Params { heads: 1, row_stride, y_row_stride, ..params };
        }
        Params {
            heads: heads as u32,
            row_stride: self.x.row_stride as u32,
            head_stride: self.x.head_stride as u32,
            y_row_stride: self.y.row_stride as u32,
            y_head_stride: self.y.head_stride as u32,
            first_head: first_head as u32,
            ..params
        }
    }
}

/// An even layout as tokens of one row.
const fn flat(layout: Layout) -> Layout {
    if layout.heads == 1 {
        return layout;
    }
    let (tokens, row_stride) = (layout.tokens * layout.heads, layout.head_stride);
    Layout { tokens, heads: 1, row_stride, head_stride: layout.len, len: layout.len }
}

fn within(layout: &Layout, elements: u64) -> u64 {
    let [heads, row_stride, head_stride, len, extent] =
        [layout.heads, layout.row_stride, layout.head_stride, layout.len, layout.extent()].map(|n| n as u64);
    if heads == 1 {
        return (elements / row_stride).max(1);
    }
    // By whole tokens, of which the first and the last may have but one of the rows; by the widest step from row to row.
    let tokens = elements.checked_sub(extent).map_or(0, |rest| rest / row_stride);
    let step = head_stride.max(row_stride - (heads - 1) * head_stride);
    (tokens * heads + 1).max(elements.saturating_sub(len) / step + 1)
}
