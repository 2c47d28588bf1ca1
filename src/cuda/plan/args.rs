//! The parameter of each kernel: one struct by value, the twin of the struct of that name in `kernels/args.cuh`.
//!
//! Addresses are `u64`, 0 where absent; every field is aligned by itself, without padding, so that the bytes are the
//! same on both sides.

use bytemuck::{Pod, Zeroable};

use crate::{DType, Problem};

/// The storage types, as a kernel takes them that is compiled for no single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// That of the tensors: 0 for f32, 1 for f16, 2 for bf16.
    pub(super) dtype: u32,
    /// 1 if gamma and beta are f32, else 0: then they have the type of the tensors.
    pub(super) param_f32: u32,
}

impl Storage {
    pub(super) fn of(problem: &Problem) -> Self {
        let dtype = match problem.dtype() {
            // Data has no type of a quantised y.
            DType::F32 | DType::Quant(_) => 0,
            DType::F16 => 1,
            DType::Bf16 => 2,
        };
        Self { dtype, param_f32: (problem.param_dtype() == DType::F32).into() }
    }
}

/// `gamma_offset` and `has_offset` of a problem whose gamma lies at `gamma`; nothing is added to the 1 that an absent one stands
/// for.
pub(super) fn offset(problem: &Problem, gamma: u64) -> (f32, u32) {
    if gamma == 0 || problem.gamma_offset() == 0.0 { (-0.0, 0) } else { (problem.gamma_offset(), 1) }
}

/// The forward of DyT and Derf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct PointwiseForward {
    pub x: u64,
    pub y: u64,
    pub gamma: u64,
    pub beta: u64,
    pub alpha: u64,
    pub shift: u64,
    pub rows: u64,
    /// Elements of a row: cols · inner.
    pub len: u64,
    pub row_stride: u64,
    pub inner: u64,
    /// Blocks that share a row.
    pub slabs: u32,
    /// Rows that a thread takes one after the other.
    pub steps: u32,
    /// The storage type of the tensors: 0 for f32, 1 for f16, 2 for bf16.
    pub dtype: u32,
    /// 1 if gamma and beta are f32, 0 if they have the type of the tensors.
    pub param_f32: u32,
    /// What is added to gamma; −0 adds nothing, and is all that may be added to an absent gamma.
    pub gamma_offset: f32,
    /// 1 if that is not −0.
    pub has_offset: u32,
}

/// The first stage of the backward of DyT and Derf: dx, and the sums of one chunk of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct PointwiseBackward {
    pub dy: u64,
    pub x: u64,
    pub dx: u64,
    pub gamma: u64,
    pub alpha: u64,
    pub shift: u64,
    /// Partial sums, `pieces` for each chunk; 0 where not asked for.
    pub dgamma: u64,
    /// As `dgamma`.
    pub dbeta: u64,
    /// Partial sums, one for each block; 0 where not asked for.
    pub dalpha: u64,
    /// As `dalpha`.
    pub dshift: u64,
    pub rows: u64,
    /// Elements of a row: cols · inner.
    pub len: u64,
    pub row_stride: u64,
    pub inner: u64,
    /// Partial sums of a chunk: one for each column, and one more wherever a slab ends inside of a column.
    pub pieces: u64,
    /// Blocks that share a row.
    pub slabs: u32,
    /// Rows that a thread takes one after the other.
    pub steps: u32,
    /// The storage type of the tensors: 0 for f32, 1 for f16, 2 for bf16.
    pub dtype: u32,
    /// 1 if gamma and beta are f32, 0 if they have the type of the tensors.
    pub param_f32: u32,
    /// What is added to gamma; −0 adds nothing, and is all that may be added to an absent gamma.
    pub gamma_offset: f32,
    /// 1 if that is not −0.
    pub has_offset: u32,
}

/// The forward of LayerNorm and RMSNorm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct NormForward {
    pub x: u64,
    pub y: u64,
    pub gamma: u64,
    pub beta: u64,
    pub mean: u64,
    pub rstd: u64,
    pub rows: u64,
    pub cols: u64,
    pub row_stride: u64,
    pub inner: u64,
    pub eps: f32,
    /// The least sum of squares of a row that f32 holds well enough; 0 where eps outweighs what is lost.
    pub least_squares: f32,
    /// 1/cols.
    pub inverse_cols: f32,
    /// Bessel's correction, cols/(cols − 1), in the unbiased form of LayerNorm, else 0.
    pub bessel: f32,
    /// Vectors of a long row that shared memory keeps.
    pub cached: u64,
    /// The storage type of the tensors: 0 for f32, 1 for f16, 2 for bf16.
    pub dtype: u32,
    /// 1 if gamma and beta are f32, 0 if they have the type of the tensors.
    pub param_f32: u32,
    /// What is added to gamma; −0 adds nothing, and is all that may be added to an absent gamma.
    pub gamma_offset: f32,
    /// 1 if that is not −0.
    pub has_offset: u32,
}

/// The first stage of the backward of LayerNorm and RMSNorm: dx, and the sums of one chunk of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct NormBackward {
    pub dy: u64,
    pub x: u64,
    pub dx: u64,
    pub gamma: u64,
    pub mean: u64,
    pub rstd: u64,
    /// Partial sums, one a column for each chunk; 0 where not asked for.
    pub dgamma: u64,
    /// As `dgamma`.
    pub dbeta: u64,
    pub rows: u64,
    pub cols: u64,
    pub row_stride: u64,
    pub inner: u64,
    pub eps: f32,
    /// As in the forward.
    pub least_squares: f32,
    /// 1/cols.
    pub inverse_cols: f32,
    /// Bessel's correction, cols/(cols − 1), in the unbiased form of LayerNorm, else 0.
    pub bessel: f32,
    /// Vectors of a long row of x, and as many of dy, that shared memory keeps; of rows in registers 1 if the next row is
    /// fetched ahead.
    pub cached: u32,
    /// Rows that a thread takes one after the other; channels-first: tiles that a block does.
    pub steps: u32,
    /// What is added to gamma; −0 adds nothing, and is all that may be added to an absent gamma.
    pub gamma_offset: f32,
    /// The storage type of the tensors: 0 for f32, 1 for f16, 2 for bf16.
    pub dtype: u8,
    /// 1 if gamma and beta are f32, 0 if they have the type of the tensors.
    pub param_f32: u8,
    /// 1 if that of gamma is not −0.
    pub has_offset: u16,
}

/// What options add to the arguments of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct Options {
    /// The residual of a forward, dsum of a backward; 0 if absent.
    pub added: u64,
    /// 0 if there is no residual.
    pub sum: u64,
    /// Of x.
    pub head_stride: u64,
    /// Of y and dy.
    pub y_row_stride: u64,
    /// Of y and dy.
    pub y_head_stride: u64,
    /// Rows that share gamma and beta, counted with heads.
    pub group_rows: u64,
    /// Columns of gamma and beta of a group.
    pub group_cols: u64,
    /// Chunks of a backward that a group has.
    pub group_chunks: u64,
    /// Rows of gamma and beta.
    pub groups: u64,
    /// Rows of a token; 1 also where the rows of all tokens are equally far apart.
    pub heads: u64,
    /// 2⁶⁴ / heads, rounded up; 0 for one head.
    pub head_inverse: u64,
    /// 2⁶⁴ / group_rows, rounded up; 0 for one row.
    pub group_inverse: u64,
    /// How the kernel goes through memory, of the forms that it has: `FORM_` in `kernels/args.cuh`.
    pub form: u32,
    /// Padding.
    pub unused: u32,
}

/// The arguments of a pass, and what options add to them.
macro_rules! with_options {
    ($($name:ident: $plain:ident),*) => {$(
        #[doc = concat!("[`", stringify!($plain), "`] with options.")]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
        #[repr(C)]
        #[allow(missing_docs, reason = "each is the struct of that name")]
        pub struct $name {
            pub plain: $plain,
            pub options: Options,
        }
    )*};
}

with_options!(
    PointwiseForwardOptions: PointwiseForward,
    PointwiseBackwardOptions: PointwiseBackward,
    NormForwardOptions: NormForward,
    NormBackwardOptions: NormBackward
);

/// The second stage of every backward: partial sums become gradients, in a fixed order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the formulas")]
pub struct Fold {
    pub dgamma_partials: u64,
    pub dbeta_partials: u64,
    pub dalpha_partials: u64,
    pub dshift_partials: u64,
    pub dgamma: u64,
    pub dbeta: u64,
    pub dalpha: u64,
    pub dshift: u64,
    pub cols: u64,
    pub inner: u64,
    /// Positions of a slab, at whose ends a column is cut; 0 if each column has one partial sum in a chunk.
    pub slab: u64,
    /// Partial sums of a chunk.
    pub pieces: u64,
    /// Of a group.
    pub chunks: u64,
    /// Partial sums of dalpha and of dshift.
    pub scalars: u64,
    /// Blocks for dgamma, and as many for dbeta; behind them one for each of dalpha and dshift. What is absent has none.
    pub column_blocks: u32,
    /// 1 to add to what the gradients hold.
    pub accumulate: u32,
    /// Rows of gamma and beta, each with as many chunks and as many blocks.
    pub groups: u64,
}

/// The parameter of a launch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is the struct of that name")]
pub enum Args {
    PointwiseForward(PointwiseForward),
    PointwiseBackward(PointwiseBackward),
    NormForward(NormForward),
    NormBackward(NormBackward),
    PointwiseForwardOptions(PointwiseForwardOptions),
    PointwiseBackwardOptions(PointwiseBackwardOptions),
    NormForwardOptions(NormForwardOptions),
    NormBackwardOptions(NormBackwardOptions),
    Fold(Fold),
}

impl Args {
    /// The bytes of the struct, which the kernel takes by value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::PointwiseForward(args) => bytemuck::bytes_of(args),
            Self::PointwiseBackward(args) => bytemuck::bytes_of(args),
            Self::NormForward(args) => bytemuck::bytes_of(args),
            Self::NormBackward(args) => bytemuck::bytes_of(args),
            Self::PointwiseForwardOptions(args) => bytemuck::bytes_of(args),
            Self::PointwiseBackwardOptions(args) => bytemuck::bytes_of(args),
            Self::NormForwardOptions(args) => bytemuck::bytes_of(args),
            Self::NormBackwardOptions(args) => bytemuck::bytes_of(args),
            Self::Fold(args) => bytemuck::bytes_of(args),
        }
    }
}
