//! What is to be computed: validated once, here, and nowhere below.

mod builder;
mod op;

pub use builder::ProblemBuilder;
pub use op::{Op, Pass, Std};

use crate::layout::{Layout, Strides};
use crate::{DType, Quant, Storage};

/// A validated problem: op, shape, storage and options.
///
/// Channels-last (`inner` = 1): x is `rows × cols`, row `r` begins at element r·row_stride, and parameters run
/// along a row. Channels-first (`inner` = S): x is `N × C × S` with rows = N and cols = C; element (n, c, s) stands
/// at n·row_stride + c·S + s, and parameters run along C. Statistics have rows·inner values, index n·inner + s. Tensors may have from [`Self::span`] to
/// rows·row_stride elements: the gap behind the last row may be there or not. With 0 rows, y and dx are empty, and the
/// gradients of parameters are 0.
///
/// With heads each of the `rows` tokens has `heads` rows of cols. Row r of all rows·heads is head r % heads of token
/// r / heads; its statistics have index r. y and dy may have strides of their own.
///
/// ```
/// use dyt::{DType, Op, Problem};
/// let problem = Problem::new(Op::LayerNorm, 512, 768).dtype(DType::Bf16).eps(1e-6).build()?;
/// assert_eq!(problem.row_stride(), 768);
/// # Ok::<(), dyt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem {
    op: Op,
    std: Std,
    storage: Storage,
    rows: usize,
    cols: usize,
    inner: usize,
    heads: usize,
    strides: Strides,
    y_strides: Strides,
    /// Rows that share gamma and beta, if not all of them do.
    param_rows: Option<usize>,
    eps: f32,
    gamma_offset: f32,
    accumulate: bool,
    quant: Option<Quant>,
}

impl Problem {
    /// Begins a problem of `rows × cols` in f32, contiguous, channels-last.
    #[expect(clippy::new_ret_no_self, reason = "the builder ends in `build`, which validates")]
    pub const fn new(op: Op, rows: usize, cols: usize) -> ProblemBuilder {
        ProblemBuilder::new(op, rows, cols)
    }

    /// The op.
    #[must_use]
    pub const fn op(&self) -> Op {
        self.op
    }
    /// The form of LayerNorm's standard deviation.
    #[must_use]
    pub const fn std(&self) -> Std {
        self.std
    }
    /// The dtypes of the data and of the parameters.
    #[must_use]
    pub const fn storage(&self) -> Storage {
        self.storage
    }
    /// The dtype of x, y, dy and dx.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.storage.dtype()
    }
    /// The dtype of gamma and beta.
    #[must_use]
    pub const fn param_dtype(&self) -> DType {
        self.storage.param_dtype()
    }
    /// Rows; N of channels-first data; tokens where there are heads.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }
    /// Columns; C of channels-first data.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }
    /// S of channels-first data; 1 for channels-last.
    #[must_use]
    pub const fn inner(&self) -> usize {
        self.inner
    }
    /// Distance of the beginnings of two rows, or tokens, in elements.
    #[must_use]
    pub const fn row_stride(&self) -> usize {
        self.strides.row
    }
    /// Rows of cols that each token has; 1 without heads.
    #[must_use]
    pub const fn heads(&self) -> usize {
        self.heads
    }
    /// Distance of the beginnings of two heads, in elements; the elements of a row without heads.
    #[must_use]
    pub const fn head_stride(&self) -> usize {
        self.strides.head
    }
    /// [`Self::row_stride`] of y and dy.
    #[must_use]
    pub const fn y_row_stride(&self) -> usize {
        self.y_strides.row
    }
    /// [`Self::head_stride`] of y and dy.
    #[must_use]
    pub const fn y_head_stride(&self) -> usize {
        self.y_strides.head
    }
    /// Rows with all heads: rows · heads.
    #[must_use]
    pub const fn total_rows(&self) -> usize {
        self.rows * self.heads
    }
    /// Neighbouring rows, counted with heads, that share gamma and beta.
    #[must_use]
    pub const fn param_rows(&self) -> usize {
        match self.param_rows {
            Some(rows) => rows,
            None => self.total_rows(),
        }
    }
    /// Rows of gamma and beta: rows · heads / param_rows, or 1 where all rows share them.
    #[must_use]
    pub const fn param_groups(&self) -> usize {
        match self.param_rows {
            Some(rows) => self.total_rows() / rows,
            None => 1,
        }
    }
    /// Length of gamma, beta, dgamma and dbeta: [`Self::param_groups`] · cols.
    #[must_use]
    pub const fn params(&self) -> usize {
        self.param_groups() * self.cols
    }
    /// Where the elements of x, residual, sum, dsum and dx stand.
    pub(crate) const fn layout(&self) -> Layout {
        self.layout_of(self.strides)
    }
    /// Where those of y and dy stand.
    pub(crate) const fn y_layout(&self) -> Layout {
        self.layout_of(self.y_strides)
    }
    const fn layout_of(&self, strides: Strides) -> Layout {
        let Strides { row: row_stride, head: head_stride } = strides;
        Layout { tokens: self.rows, heads: self.heads, row_stride, head_stride, len: self.row_len() }
    }
    /// Whether y and dy have the strides of x.
    pub(crate) fn has_one_layout(&self) -> bool {
        self.strides == self.y_strides
    }
    /// Whether the rows of all tokens are equally far apart, in x and in y.
    pub(crate) const fn is_even(&self) -> bool {
        self.heads == 1 || self.layout().is_even() && self.y_layout().is_even()
    }
    /// The constant that keeps rstd finite; unused by DyT and Derf.
    #[must_use]
    pub const fn eps(&self) -> f32 {
        self.eps
    }
    /// What is added to gamma before it multiplies; 0 by default.
    #[must_use]
    pub const fn gamma_offset(&self) -> f32 {
        self.gamma_offset
    }
    /// What kernels add to gamma. Without an offset it is −0, which changes no value, −0 included.
    pub(crate) fn added_to_gamma(&self) -> f32 {
        if self.gamma_offset == 0.0 { -0.0 } else { self.gamma_offset }
    }
    /// The sum of squares below which kernels on a GPU compute a row of a norm again; 0 if eps is so large that underflow
    /// cannot show. A square that a driver flushes is below 2⁻¹²⁶, at most 2⁻²⁶ of a variance of 2⁻¹⁰⁰.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn least_squares(&self) -> f32 {
        let outweighs = match self.std {
            Std::Biased => -100,
            Std::Unbiased => -40,
        };
        let power = |k: i32| f32::from_bits(((k + 127) as u32) << 23);
        if self.eps >= power(outweighs) { 0.0 } else { self.cols as f32 * power(-100) }
    }
    /// Whether gradients of parameters are added to what their buffers hold.
    #[must_use]
    pub const fn accumulate(&self) -> bool {
        self.accumulate
    }
    /// What y of the forward is quantised to, if it is.
    #[must_use]
    pub const fn quant(&self) -> Option<Quant> {
        self.quant
    }
    /// The same problem with another type of a quantised y, or without: a backward takes it without.
    #[must_use]
    pub const fn with_quant(self, quant: Option<Quant>) -> Self {
        Self { quant, ..self }
    }
    /// The dtype of y: that of the data, or of [`Self::quant`].
    #[must_use]
    pub const fn y_dtype(&self) -> DType {
        match self.quant {
            Some(quant) => DType::Quant(quant),
            None => self.dtype(),
        }
    }
    /// Elements of one row: cols · inner.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.cols * self.inner
    }
    /// Elements that are computed: rows · heads · cols · inner.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.total_rows() * self.row_len()
    }
    /// Length of `mean` and of `rstd`: rows · heads · inner.
    #[must_use]
    pub const fn statistics(&self) -> usize {
        self.total_rows() * self.inner
    }
    /// Elements from the first of x to the last: (rows − 1) · row_stride + (heads − 1) · head_stride + cols · inner, or 0
    /// without rows.
    #[must_use]
    pub const fn span(&self) -> usize {
        self.layout().span()
    }
    /// The same of y and dy, by their strides.
    #[must_use]
    pub const fn y_span(&self) -> usize {
        self.y_layout().span()
    }
}
