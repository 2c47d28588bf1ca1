//! What the options of a problem make of a plan.

use super::args::Options;
use crate::Problem;

/// The rows of a problem, with all heads, and what of them a kernel needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// Elements from one row of x to the next, or from one token to the next where a kernel counts heads.
    pub(super) stride: u64,
    /// What a kernel with options takes; the form and the chunks are not filled in. None for a plain call.
    pub(super) options: Option<Options>,
}

impl Rows {
    /// `added` is the address of the residual or of dsum.
    pub(super) fn of(problem: &Problem, added: u64, sum: u64) -> Self {
        let (x, y) = (problem.layout(), problem.y_layout());
        let even = problem.is_even();
        let stride =
            |layout: crate::layout::Layout| if even { layout.stride() } else { layout.row_stride } as u64;
        let plain = added == 0 && even && stride(x) == stride(y) && problem.param_groups() == 1;
        let heads = if even { 1 } else { problem.heads() };
        let options = Options {
            added,
            sum,
            head_stride: x.head_stride as u64,
            y_row_stride: stride(y),
            y_head_stride: y.head_stride as u64,
            group_rows: problem.param_rows() as u64,
            group_cols: problem.cols() as u64,
            group_chunks: 1,
            groups: problem.param_groups() as u64,
            heads: heads as u64,
            head_inverse: inverse(heads as u64),
            group_inverse: inverse(problem.param_rows() as u64),
            form: 0,
            unused: 0,
        };
        Self { stride: stride(x), options: (!plain).then_some(options) }
    }
}

/// 2⁶⁴ / `n`, rounded up; 0 for 0 and 1.
fn inverse(n: u64) -> u64 {
    if n < 2 { 0 } else { (u64::MAX / n).wrapping_add(1) }
}

/// Chunks of `lines`, each of them of one group; all groups have as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    pub(super) groups: u64,
    pub(super) of_group: u64,
}

impl Chunks {
    pub(super) const fn all(self) -> u64 {
        self.groups * self.of_group
    }
}
