//! From a problem to launches: pure functions, tested without a device. Frameworks that load the PTX themselves may
//! use them too.
//!
//! What decides bits (the form, the chunks of rows whose partial sums are kept apart) follows from the problem and the
//! alignment of its buffers; the machine decides nothing but how much of a long row shared memory keeps.

pub mod args;
mod entry;
mod fold;
mod norm;
mod options;
mod pointwise;
#[cfg(test)]
mod tests;

pub use args::Args;
pub use entry::{Entry, Norm, NormForm, Pointwise, PointwiseForm};

use entry::Family;

use crate::{Pass, Problem};

/// The most blocks that a grid may have along x.
pub const MAX_GRID: u64 = (1 << 31) - 1;
/// The most bytes of dynamic shared memory that a launch may ask for without a function attribute.
pub const SHARED_WITHOUT_OPT_IN: u32 = 48 * 1024;

/// What a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of shared memory that a block may have: `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`.
    pub shared_bytes: u32,
}

impl Limits {
    /// What every device has without opting in.
    pub const BASELINE: Self = Self { shared_bytes: SHARED_WITHOUT_OPT_IN };
}

/// Device addresses of a forward's buffers; 0 where absent. In place, `x` is `y` or `sum`, and `residual` is one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct ForwardAddresses {
    pub x: u64,
    pub residual: u64,
    pub sum: u64,
    pub alpha: u64,
    pub shift: u64,
    pub gamma: u64,
    pub beta: u64,
    pub y: u64,
    pub mean: u64,
    pub rstd: u64,
}

/// Device addresses of a backward's buffers; 0 where absent. In place, `dy` or `dsum` is `dx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct BackwardAddresses {
    pub dy: u64,
    pub x: u64,
    pub dsum: u64,
    pub alpha: u64,
    pub shift: u64,
    pub gamma: u64,
    pub mean: u64,
    pub rstd: u64,
    pub dx: u64,
    pub dalpha: u64,
    pub dshift: u64,
    pub dgamma: u64,
    pub dbeta: u64,
    /// At least [`workspace_bytes`], aligned to 4 bytes.
    pub workspace: u64,
}

/// One launch of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Launch {
    /// The kernel.
    pub entry: Entry,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory; no kernel has any other.
    pub shared_bytes: u32,
    /// The kernel's only parameter.
    pub args: Args,
}

/// The launches of a call, to be queued one behind the other; none where there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Launches {
    /// The forward, or the backward's dx and partial sums.
    first: Option<Launch>,
    /// The second stage of a backward.
    fold: Option<Launch>,
}

impl Launches {
    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Launch> {
        self.first.iter().chain(&self.fold)
    }
}

/// The launches of a forward.
#[must_use]
pub fn forward(problem: &Problem, at: &ForwardAddresses, limits: Limits) -> Launches {
    let first = (problem.rows() > 0).then(|| match problem.op().into() {
        Family::Pointwise(op) => pointwise::forward(op, problem, at),
        Family::Norm(op) => norm::forward(op, problem, at, limits),
    });
    Launches { first, fold: None }
}

/// The launches of a backward.
#[must_use]
pub fn backward(problem: &Problem, at: &BackwardAddresses, limits: Limits) -> Launches {
    let (first, partials) = match problem.op().into() {
        Family::Pointwise(op) => pointwise::backward(op, problem, at),
        Family::Norm(op) => norm::backward(op, problem, at, limits),
    };
    Launches { first, fold: fold::launch(problem, at, &partials) }
}

/// Bytes of workspace that a call needs, whatever gradients it asks for.
#[must_use]
pub fn workspace_bytes(problem: &Problem, pass: Pass) -> usize {
    let floats = match (pass, problem.op().into()) {
        (Pass::Forward, _) => 0,
        (Pass::Backward, Family::Pointwise(_)) => pointwise::partial_len(problem),
        (Pass::Backward, Family::Norm(_)) => norm::partial_len(problem),
    };
    floats * size_of::<f32>()
}

/// The geometry that both families share.
mod geometry {
    use crate::layout::Layout;
    use crate::{DType, Problem};

    /// Threads of most blocks.
    pub(super) const THREADS: u64 = 256;
    /// Threads of a warp.
    pub(super) const WARP: u64 = 32;

    /// Elements of `dtype` in 16 bytes.
    pub(super) const fn vector(dtype: DType) -> u64 {
        16 / dtype.size() as u64
    }

    /// Whether rows can be gone through by 16 bytes: `tensors` are the addresses of those with rows, `parameters` those
    /// along a row.
    pub(super) fn aligned(problem: &Problem, tensors: &[u64], parameters: &[u64]) -> bool {
        let v = vector(problem.dtype()) as usize;
        let whole = |layout: Layout| {
            (problem.rows() < 2 || layout.row_stride.is_multiple_of(v))
                && (problem.heads() < 2 || layout.head_stride.is_multiple_of(v))
        };
        let strided = whole(problem.layout()) && whole(problem.y_layout());
        // In channels-first data a parameter belongs to a run, and is read by itself.
        let along = problem.inner() > 1 || parameters.iter().all(|p| p.is_multiple_of(16));
        strided
            && along
            && problem.row_len().is_multiple_of(v)
            && tensors.iter().all(|t| t.is_multiple_of(16))
    }

    /// The largest power of two that is at most `n`, at least 1.
    pub(super) const fn floor_power(n: u64) -> u64 {
        if n < 2 { 1 } else { 1 << (63 - n.leading_zeros()) }
    }

    /// A grid along x.
    #[expect(clippy::cast_possible_truncation, reason = "the callers keep to `MAX_GRID`")]
    pub(super) const fn grid(blocks: u64) -> [u32; 3] {
        debug_assert!(blocks <= super::MAX_GRID);
        [blocks as u32, 1, 1]
    }

    /// A block of `x` by `y` threads.
    #[expect(clippy::cast_possible_truncation, reason = "at most 1024")]
    pub(super) const fn block(x: u64, y: u64) -> [u32; 3] {
        debug_assert!(x * y <= 1024);
        [x as u32, y as u32, 1]
    }
}
