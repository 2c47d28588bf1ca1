//! What is to be computed: validated once, here, and nowhere below.

use core::fmt;

use crate::layout::{Layout, Strides};
use crate::{Argument, DType, Error, Quant, Result, Storage};

/// The op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// y = gamma·tanh(alpha·x) + beta. Zhu et al. 2025, arXiv 2503.10622.
    Dyt,
    /// y = gamma·erf(alpha·x + shift) + beta. Chen et al. 2025, arXiv 2512.10938.
    Derf,
    /// y = (x − mean)·rstd·gamma + beta, rstd by [`Std`]. Ba et al. 2016, arXiv 1607.06450.
    LayerNorm,
    /// y = x·rstd·gamma + beta with rstd = 1/√(Σx²/cols + eps). Zhang and Sennrich 2019, arXiv 1910.07467.
    RmsNorm,
}

impl Op {
    /// Every op.
    pub const ALL: [Self; 4] = [Self::Dyt, Self::Derf, Self::LayerNorm, Self::RmsNorm];

    /// The name in snake case: `dyt`, `derf`, `layer_norm`, `rms_norm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dyt => "dyt",
            Self::Derf => "derf",
            Self::LayerNorm => "layer_norm",
            Self::RmsNorm => "rms_norm",
        }
    }

    /// Whether the op works element by element: it takes `alpha`, and has no statistics.
    #[must_use]
    pub const fn is_pointwise(self) -> bool {
        match self {
            Self::Dyt | Self::Derf => true,
            Self::LayerNorm | Self::RmsNorm => false,
        }
    }

    /// Whether the op takes `shift`.
    #[must_use]
    pub const fn has_shift(self) -> bool {
        match self {
            Self::Derf => true,
            Self::Dyt | Self::LayerNorm | Self::RmsNorm => false,
        }
    }

    /// Whether the op takes and gives `mean`.
    #[must_use]
    pub const fn has_mean(self) -> bool {
        match self {
            Self::LayerNorm => true,
            Self::Dyt | Self::Derf | Self::RmsNorm => false,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How LayerNorm makes `rstd` from the deviations from the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Std {
    /// rstd = 1/√(Σ(x−mean)²/cols + eps); the usual LayerNorm.
    #[default]
    Biased,
    /// rstd = 1/(√(Σ(x−mean)²/(cols−1)) + eps); the form of the Annotated Transformer. It needs two columns, and where
    /// the deviation is 0 its derivative counts as 0.
    Unbiased,
}

/// The direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// From x to y.
    Forward,
    /// From dy to dx and the gradients of the parameters.
    Backward,
}

impl Pass {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Backward];

    /// The name in lower case: `forward` or `backward`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

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
        ProblemBuilder {
            op,
            std: Std::Biased,
            dtype: DType::F32,
            param_dtype: None,
            rows,
            cols,
            inner: 1,
            row_stride: None,
            heads: None,
            y_strides: None,
            param_rows: None,
            eps: None,
            gamma_offset: 0.0,
            accumulate: false,
            quant: None,
        }
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

/// Gathers what a [`Problem`] is made of; [`ProblemBuilder::build`] validates it.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ProblemBuilder {
    op: Op,
    std: Std,
    dtype: DType,
    param_dtype: Option<DType>,
    rows: usize,
    cols: usize,
    inner: usize,
    row_stride: Option<usize>,
    /// Their number and stride.
    heads: Option<(usize, usize)>,
    /// Of a token and of a head.
    y_strides: Option<(usize, usize)>,
    param_rows: Option<usize>,
    eps: Option<f32>,
    gamma_offset: f32,
    accumulate: bool,
    quant: Option<Quant>,
}

impl ProblemBuilder {
    /// The dtype of x, y, dy and dx, and of gamma and beta unless [`Self::param_dtype`] says otherwise.
    pub const fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }
    /// The dtype of gamma and beta: that of x, or f32.
    pub const fn param_dtype(mut self, param_dtype: DType) -> Self {
        self.param_dtype = Some(param_dtype);
        self
    }
    /// Distance of the beginnings of two rows, in elements; at least cols · inner, which is the default. With heads that of two
    /// tokens, by default heads · head_stride.
    pub const fn row_stride(mut self, row_stride: usize) -> Self {
        self.row_stride = Some(row_stride);
        self
    }
    /// Makes each of the `rows` tokens `heads` rows of cols, `head_stride` elements apart: the queries in a packed QKV have
    /// rows = tokens, row_stride = 3·H·D, heads = H, cols = head_stride = D. For channels-last data.
    pub const fn heads(mut self, heads: usize, head_stride: usize) -> Self {
        self.heads = Some((heads, head_stride));
        self
    }
    /// Gives y and dy strides of their own, in elements: from one row (with heads, one token) to the next, and from one head to
    /// the next, which is not looked at without heads. By default they have those of x. dx has those of x.
    pub const fn y_strides(mut self, row: usize, head: usize) -> Self {
        self.y_strides = Some((row, head));
        self
    }
    /// Makes gamma and beta change with the row: each `rows` neighbouring rows, counted with heads, share one row of them.
    /// `rows` divides all rows. dgamma and dbeta are as gamma and beta. With the tokens of a sample it is AdaLN's modulation.
    /// alpha and shift stay one value.
    pub const fn param_rows(mut self, rows: usize) -> Self {
        self.param_rows = Some(rows);
        self
    }
    /// Channels-first data `N × C × S`: sets S.
    pub const fn inner(mut self, inner: usize) -> Self {
        self.inner = inner;
        self
    }
    /// Both dtypes at once.
    pub const fn storage(mut self, storage: Storage) -> Self {
        self.dtype = storage.dtype();
        self.param_dtype = Some(storage.param_dtype());
        self
    }
    /// The form of LayerNorm's standard deviation.
    pub const fn std(mut self, std: Std) -> Self {
        self.std = std;
        self
    }
    /// The constant that keeps rstd finite, itself finite and at least 0. By default 1e-5 for LayerNorm, and 1e-6 for its unbiased form and RMSNorm.
    pub const fn eps(mut self, eps: f32) -> Self {
        self.eps = Some(eps);
        self
    }
    /// Makes the factor of each column gamma + `offset`, rounded to f32: `gamma_offset(1.0)` is Gemma's 1 + w. The gradient of
    /// gamma stays the same, and an absent gamma stays 1. `offset` must be finite.
    pub const fn gamma_offset(mut self, offset: f32) -> Self {
        self.gamma_offset = offset;
        self
    }
    /// Adds gradients of parameters to what their buffers hold, instead of overwriting it.
    pub const fn accumulate(mut self, accumulate: bool) -> Self {
        self.accumulate = accumulate;
        self
    }
    /// Quantises y of the forward, which then takes [`Forward::scale`](crate::Forward::scale) or
    /// [`Forward::scales`](crate::Forward::scales). y is apart from x, and there is no backward.
    pub const fn quant(mut self, quant: Quant) -> Self {
        self.quant = Some(quant);
        self
    }

    /// Validates.
    ///
    /// # Errors
    /// [`Error::ZeroCols`], [`Error::ZeroInner`], [`Error::ZeroHeads`], [`Error::HeadsChannelsFirst`],
    /// [`Error::HeadsOverlap`], [`Error::SizeOverflow`], [`Error::StrideTooSmall`], [`Error::ParamRows`],
    /// [`Error::InvalidEps`], [`Error::InvalidGammaOffset`], [`Error::UnbiasedSingleColumn`],
    /// [`Error::UnbiasedNotLayerNorm`], [`Error::ParamDtype`], [`Error::DataDtype`].
    pub fn build(self) -> Result<Problem> {
        if self.cols == 0 {
            return Err(Error::ZeroCols);
        }
        if self.inner == 0 {
            return Err(Error::ZeroInner);
        }
        let (heads, head_stride) = self.heads.unwrap_or((1, self.cols));
        if heads == 0 {
            return Err(Error::ZeroHeads);
        }
        if heads > 1 && self.inner > 1 {
            return Err(Error::HeadsChannelsFirst { heads, inner: self.inner });
        }
        let strides = self.strides(Argument::X, self.row_stride, head_stride)?;
        let y_strides = match self.y_strides {
            Some((row_stride, head_stride)) => self.strides(Argument::Y, Some(row_stride), head_stride)?,
            None => strides,
        };
        self.check_param_rows(self.rows * heads)?;
        let eps = self.eps.unwrap_or(match (self.op, self.std) {
            (Op::LayerNorm, Std::Biased) => 1e-5,
            (Op::LayerNorm, Std::Unbiased) | (Op::RmsNorm | Op::Dyt | Op::Derf, _) => 1e-6,
        });
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(Error::InvalidEps { eps });
        }
        if !self.gamma_offset.is_finite() {
            return Err(Error::InvalidGammaOffset { gamma_offset: self.gamma_offset });
        }
        if self.std == Std::Unbiased {
            if self.op != Op::LayerNorm {
                return Err(Error::UnbiasedNotLayerNorm { op: self.op });
            }
            if self.cols == 1 {
                return Err(Error::UnbiasedSingleColumn);
            }
        }
        let storage = Storage::new(self.dtype, self.param_dtype.unwrap_or(self.dtype))?;
        Ok(Problem {
            op: self.op,
            std: self.std,
            storage,
            rows: self.rows,
            cols: self.cols,
            inner: self.inner,
            heads,
            strides,
            y_strides,
            param_rows: self.param_rows,
            eps,
            gamma_offset: self.gamma_offset,
            accumulate: self.accumulate,
            quant: self.quant,
        })
    }

    /// The strides of a tensor, after every product that the kernels form is known to fit an address.
    fn strides(&self, argument: Argument, row_stride: Option<usize>, head_stride: usize) -> Result<Strides> {
        let overflow = || Error::SizeOverflow {
            rows: self.rows,
            cols: self.cols,
            inner: self.inner,
            row_stride: row_stride.unwrap_or(0),
        };
        let heads = self.heads.map_or(1, |(heads, _)| heads);
        let len = self.cols.checked_mul(self.inner).ok_or_else(overflow)?;
        let head_stride = if heads == 1 { len } else { head_stride };
        if head_stride < len {
            return Err(Error::HeadsOverlap { argument, head_stride, cols: self.cols });
        }
        let packed = heads.checked_mul(head_stride).ok_or_else(overflow)?;
        let (row_stride, minimum) = (row_stride.unwrap_or(packed), packed - head_stride + len);
        if row_stride < minimum {
            return Err(Error::StrideTooSmall { argument, row_stride, minimum });
        }
        // f32 is the widest type that a buffer of this size may need: the statistics and the partial sums.
        let bytes = |n: usize| n.checked_mul(size_of::<f32>());
        let tensor = self.rows.max(1).checked_mul(row_stride).and_then(bytes);
        let statistics = self.rows.checked_mul(heads).and_then(|n| n.checked_mul(self.inner)).and_then(bytes);
        // The workspace holds at most four sums for each element of a row and each chunk of rows.
        let workspace = tensor.and_then(|n| n.checked_mul(4));
        let limit = isize::MAX as usize;
        match (workspace, statistics) {
            (Some(w), Some(s)) if w <= limit && s <= limit => {
                Ok(Strides { row: row_stride, head: head_stride })
            }
            _ => Err(overflow()),
        }
    }

    const fn check_param_rows(&self, rows: usize) -> Result<()> {
        match self.param_rows {
            Some(param_rows) if param_rows == 0 || !rows.is_multiple_of(param_rows) => {
                Err(Error::ParamRows { param_rows, rows })
            }
            _ => Ok(()),
        }
    }
}
