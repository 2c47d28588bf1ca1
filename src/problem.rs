//! What is to be computed: validated once, here, and nowhere below.

use core::fmt;

use crate::{DType, Error, Result, Storage};

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
    row_stride: usize,
    eps: f32,
    gamma_offset: f32,
    accumulate: bool,
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
            eps: None,
            gamma_offset: 0.0,
            accumulate: false,
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
    /// Rows; N of channels-first data.
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
    /// Distance of the beginnings of two rows, in elements.
    #[must_use]
    pub const fn row_stride(&self) -> usize {
        self.row_stride
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
    /// Elements of one row: cols · inner.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.cols * self.inner
    }
    /// Elements that are computed: rows · cols · inner.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.rows * self.row_len()
    }
    /// Length of `mean` and of `rstd`: rows · inner.
    #[must_use]
    pub const fn statistics(&self) -> usize {
        self.rows * self.inner
    }
    /// Elements from the first of x to the last: (rows − 1) · row_stride + cols · inner, or 0 without rows.
    #[must_use]
    pub const fn span(&self) -> usize {
        if self.rows == 0 { 0 } else { (self.rows - 1) * self.row_stride + self.row_len() }
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
    eps: Option<f32>,
    gamma_offset: f32,
    accumulate: bool,
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
    /// Distance of the beginnings of two rows, in elements; at least cols · inner, which is the default.
    pub const fn row_stride(mut self, row_stride: usize) -> Self {
        self.row_stride = Some(row_stride);
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

    /// Validates.
    ///
    /// # Errors
    /// [`Error::ZeroCols`], [`Error::ZeroInner`], [`Error::SizeOverflow`], [`Error::StrideTooSmall`],
    /// [`Error::InvalidEps`], [`Error::InvalidGammaOffset`], [`Error::UnbiasedSingleColumn`],
    /// [`Error::UnbiasedNotLayerNorm`], [`Error::ParamDtype`].
    pub fn build(self) -> Result<Problem> {
        if self.cols == 0 {
            return Err(Error::ZeroCols);
        }
        if self.inner == 0 {
            return Err(Error::ZeroInner);
        }
        let row_stride = self.checked_stride()?;
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
            row_stride,
            eps,
            gamma_offset: self.gamma_offset,
            accumulate: self.accumulate,
        })
    }

    /// The row stride, after every product that the kernels form is known to fit an address.
    fn checked_stride(&self) -> Result<usize> {
        let overflow = Error::SizeOverflow {
            rows: self.rows,
            cols: self.cols,
            inner: self.inner,
            row_stride: self.row_stride.unwrap_or(0),
        };
        let minimum = self.cols.checked_mul(self.inner).ok_or_else(|| overflow.clone())?;
        let row_stride = self.row_stride.unwrap_or(minimum);
        if row_stride < minimum {
            return Err(Error::StrideTooSmall { row_stride, minimum });
        }
        // f32 is the widest type that a buffer of this size may need: the statistics and the partial sums.
        let bytes = self.rows.max(1).checked_mul(row_stride).and_then(|n| n.checked_mul(size_of::<f32>()));
        let statistics = self.rows.checked_mul(self.inner).and_then(|n| n.checked_mul(size_of::<f32>()));
        // The workspace holds at most four sums for each element of a row and each chunk of rows.
        let workspace = bytes.and_then(|n| n.checked_mul(4));
        let limit = isize::MAX as usize;
        match (workspace, statistics) {
            (Some(w), Some(s)) if w <= limit && s <= limit => Ok(row_stride),
            _ => Err(overflow),
        }
    }
}
