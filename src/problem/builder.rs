//! What a problem is made of, and its validation.

use super::{Op, Problem, Std};
use crate::layout::Strides;
use crate::{Argument, DType, Error, Quant, Result, Storage};

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
    /// In f32, contiguous, channels-last.
    pub(super) const fn new(op: Op, rows: usize, cols: usize) -> Self {
        Self {
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
        let eps = self.checked_eps()?;
        self.check_form()?;
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

    /// eps, or that of the op.
    fn checked_eps(&self) -> Result<f32> {
        let eps = self.eps.unwrap_or(match (self.op, self.std) {
            (Op::LayerNorm, Std::Biased) => 1e-5,
            (Op::LayerNorm, Std::Unbiased) | (Op::RmsNorm | Op::Dyt | Op::Derf, _) => 1e-6,
        });
        if eps.is_finite() && eps >= 0.0 { Ok(eps) } else { Err(Error::InvalidEps { eps }) }
    }

    fn check_form(&self) -> Result<()> {
        if !self.gamma_offset.is_finite() {
            return Err(Error::InvalidGammaOffset { gamma_offset: self.gamma_offset });
        }
        match self.std {
            Std::Unbiased if self.op != Op::LayerNorm => Err(Error::UnbiasedNotLayerNorm { op: self.op }),
            Std::Unbiased if self.cols == 1 => Err(Error::UnbiasedSingleColumn),
            Std::Biased | Std::Unbiased => Ok(()),
        }
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
