//! The tensors of a call, checked, and brought to what the kernels take.

use dyt::{DType, Op, Problem, Std};

use super::layout::{Channels, Layout, contiguous, dense, is_contiguous, same};
use super::tensor::{Failure, Place, Tensor, contiguous_strides};

/// x, in a layout that the kernels take, and what follows from it.
#[derive(Debug)]
pub(super) struct Data {
    /// x, or a contiguous copy of it.
    pub(super) x: Tensor,
    pub(super) channels: Channels,
    pub(super) dtype: DType,
    pub(super) place: Place,
    layout: Layout,
}

impl Data {
    /// # Errors
    /// A dtype that the kernels do not know, or too few dimensions.
    pub(super) fn new(x: Tensor, dims: i64) -> Result<Self, Failure> {
        let channels = Channels::from_dims(dims);
        let dtype = known("x", &x)?;
        let sizes = x.sizes()?;
        if channels.of(sizes).is_none() {
            let expected = if let Channels::Last(count) = channels { count } else { 2 };
            return Err(format!("dyt: x has shape {sizes:?}, expected at least {expected} dimensions"));
        }
        let (x, layout) = match dense(sizes, x.strides()?, channels) {
            Some(layout) => (x, layout),
            None => (x.copy(&contiguous_strides(sizes), dtype)?, contiguous(sizes, channels)),
        };
        Ok(Self { channels, dtype, place: x.place()?, layout, x })
    }

    /// The sizes along which the parameters run.
    ///
    /// # Errors
    /// Torch does not tell.
    pub(super) fn shape(&self) -> Result<&[i64], Failure> {
        Ok(self.channels.of(self.x.sizes()?).unwrap_or(&[]))
    }

    /// The problem. eps is none of the pointwise ops'; `offset` is added to weight.
    ///
    /// # Errors
    /// What the library says about it.
    pub(super) fn problem(
        &self,
        op: Op,
        param: DType,
        eps: Option<f64>,
        unbiased: bool,
        offset: f64,
    ) -> Result<Problem, Failure> {
        let Layout { rows, cols, inner } = self.layout;
        let std = if unbiased { Std::Unbiased } else { Std::Biased };
        let problem = Problem::new(op, rows, cols).inner(inner).dtype(self.dtype).param_dtype(param).std(std);
        let problem = problem.gamma_offset(offset as f32);
        let problem = match eps {
            Some(eps) => problem.eps(eps as f32),
            None => problem,
        };
        problem.build().map_err(|error| super::runner::failure(&error))
    }

    /// A new tensor that lies as x does.
    ///
    /// # Errors
    /// Torch has no memory.
    pub(super) fn like(&self) -> Result<Tensor, Failure> {
        Tensor::empty(self.x.sizes()?, self.x.strides()?, self.dtype, self.place)
    }

    /// The sizes and strides of a statistic: one value for each row, which lie in the order of the rows.
    fn statistics_shape(&self) -> Result<(&[i64], Vec<i64>), Failure> {
        let (sizes, strides) = (self.x.sizes()?, self.x.strides()?);
        let rows = sizes.len().saturating_sub(self.shape()?.len());
        let cols = self.layout.cols.max(1) as i64;
        Ok((&sizes[..rows], strides[..rows].iter().map(|stride| stride / cols).collect()))
    }

    /// A new mean or rstd.
    ///
    /// # Errors
    /// Torch has no memory.
    pub(super) fn statistics(&self) -> Result<Tensor, Failure> {
        let (sizes, strides) = self.statistics_shape()?;
        Tensor::empty(sizes, &strides, DType::F32, self.place)
    }

    /// A mean or rstd that a forward saved.
    ///
    /// # Errors
    /// It is not one of x.
    pub(super) fn as_statistics(&self, name: &str, tensor: Tensor) -> Result<Tensor, Failure> {
        self.here(name, &tensor)?;
        let (sizes, strides) = self.statistics_shape()?;
        let actual = tensor.sizes()?;
        if actual != sizes {
            return Err(format!("dyt: {name} has shape {actual:?}, expected {sizes:?}"));
        }
        let ready = tensor.dtype()? == Ok(DType::F32) && same(sizes, tensor.strides()?, &strides);
        if ready { Ok(tensor) } else { tensor.copy(&strides, DType::F32) }
    }

    /// A gradient of x's shape, with its elements where those of x are.
    ///
    /// # Errors
    /// Another shape, dtype or device than x has.
    pub(super) fn beside(&self, name: &str, tensor: Tensor) -> Result<Tensor, Failure> {
        self.here(name, &tensor)?;
        let (actual, expected, strides) = (tensor.sizes()?, self.x.sizes()?, self.x.strides()?);
        if actual != expected {
            return Err(format!("dyt: {name} has shape {actual:?}, expected {expected:?}"));
        }
        let dtype = known(name, &tensor)?;
        if dtype == self.dtype && same(actual, tensor.strides()?, strides) {
            return Ok(tensor);
        }
        tensor.copy(strides, self.dtype)
    }

    /// alpha or shift: one value in f32.
    ///
    /// # Errors
    /// More than one value, a dtype that the kernels do not know, or another device than x's.
    pub(super) fn scalar(&self, name: &str, tensor: Tensor) -> Result<Tensor, Failure> {
        self.here(name, &tensor)?;
        if tensor.elements()? != 1 {
            return Err(format!("dyt: {name} has shape {:?}, expected one value", tensor.sizes()?));
        }
        if known(name, &tensor)? == DType::F32 {
            Ok(tensor)
        } else {
            tensor.copy(tensor.strides()?, DType::F32)
        }
    }

    /// weight or bias.
    ///
    /// # Errors
    /// Another shape than [`Self::shape`], a dtype that the kernels do not know, or another device than x's.
    fn parameter(&self, name: &str, tensor: &Tensor) -> Result<DType, Failure> {
        self.here(name, tensor)?;
        let (actual, expected) = (tensor.sizes()?, self.shape()?);
        if actual != expected {
            return Err(format!("dyt: {name} has shape {actual:?}, expected {expected:?}"));
        }
        known(name, tensor)
    }

    /// weight and bias, contiguous and in one dtype: their own if it is x's, else f32.
    ///
    /// # Errors
    /// Another shape than x's last dimensions, a dtype that the kernels do not know, or another device than x's.
    pub(super) fn parameters(
        &self,
        weight: Option<Tensor>,
        bias: Option<Tensor>,
    ) -> Result<(DType, Option<Tensor>, Option<Tensor>), Failure> {
        let weight = weight
            .map(|tensor| self.parameter("weight", &tensor).map(|dtype| (dtype, tensor)))
            .transpose()?;
        let bias =
            bias.map(|tensor| self.parameter("bias", &tensor).map(|dtype| (dtype, tensor))).transpose()?;
        let all = |dtype| [&weight, &bias].into_iter().flatten().all(|&(own, _)| own == dtype);
        let dtype = if all(self.dtype) { self.dtype } else { DType::F32 };
        let bring = |(own, tensor): (DType, Tensor)| {
            let sizes = tensor.sizes()?;
            let ready = own == dtype && is_contiguous(sizes, tensor.strides()?);
            if ready { Ok(tensor) } else { tensor.copy(&contiguous_strides(sizes), dtype) }
        };
        Ok((dtype, weight.map(bring).transpose()?, bias.map(bring).transpose()?))
    }

    /// Fails unless the tensor lies on x's device.
    fn here(&self, name: &str, tensor: &Tensor) -> Result<(), Failure> {
        match tensor.place() {
            Ok(place) if place == self.place => Ok(()),
            Ok(_) => Err(format!("dyt: {name} lies on another device than x")),
            // torch hands over None as a tensor that is not defined.
            Err(_) => Err(format!("dyt: {name} is no tensor")),
        }
    }
}

/// The dtype of an argument.
fn known(name: &str, tensor: &Tensor) -> Result<DType, Failure> {
    tensor.dtype()?.map_err(|other| format!("dyt: {name} is {other}, expected float32, float16 or bfloat16"))
}
