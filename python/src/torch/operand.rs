//! x, checked, and the tensors that lie as it does.

use dyt::DType;

use super::layout::{Channels, Layout, Plan, plan, same};
use super::shims::shims;
use super::tensor::{Failure, Place, Tensor};

/// How far x may reach to be read where it lies, by its elements.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    /// Its rows have to lie side by side: with a residual.
    SideBySide,
    /// As far as it likes: a forward.
    Any,
    /// Not so far that dx, which lies as x does, is nearly all gaps.
    Gradient,
}

impl Reach {
    /// In multiples of x's elements, on a device of that kind. `_layout.py` has the same numbers.
    fn times(self, place: Place) -> i64 {
        // On other devices it is not tried yet.
        match self {
            _ if cfg!(feature = "simt") || place.kind != shims().cpu => 0,
            Self::SideBySide => 0,
            Self::Any => i64::MAX,
            Self::Gradient => 8,
        }
    }
}

/// Which dimensions of x the parameters have: the op's arguments `dims` and `lead`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dimensions {
    pub(super) channels: Channels,
    /// Each element of so many leading dimensions has parameters of its own.
    lead: usize,
}

impl Dimensions {
    pub(super) fn new(dims: i64, lead: i64) -> Self {
        Self { channels: Channels::from_dims(dims), lead: usize::try_from(lead).unwrap_or(0) }
    }
}

/// x, in a layout that the kernels take, and what follows from it.
#[derive(Debug)]
pub(super) struct Data {
    /// x, or a copy of it that lies as y does.
    pub(super) x: Tensor,
    pub(super) dtype: DType,
    pub(super) place: Place,
    pub(super) layout: Layout,
    dimensions: Dimensions,
    /// The strides of y, where they are not those of x.
    y: Option<Vec<i64>>,
}

impl Data {
    /// # Errors
    /// A dtype that the kernels do not know, or too few dimensions.
    pub(super) fn new(x: Tensor, dimensions: Dimensions, reach: Reach) -> Result<Self, Failure> {
        let Dimensions { channels, lead } = dimensions;
        let (dtype, place) = (known("x", &x)?, x.place()?);
        let sizes = x.sizes()?;
        let first = channels.first(sizes).filter(|&first| first >= lead);
        if first.is_none() {
            let expected = lead + if let Channels::Last(count) = channels { count } else { 2 - lead.min(1) };
            return Err(format!("dyt: x has shape {sizes:?}, expected at least {expected} dimensions"));
        }
        let Plan { layout, copied, y } = plan(sizes, x.strides()?, channels, lead, reach.times(place));
        let (x, y) = match y {
            Some(y) if copied => (x.copy(&y, dtype)?, None),
            y => (x, y),
        };
        Ok(Self { x, dtype, place, layout, dimensions, y })
    }

    /// The sizes of weight and bias.
    ///
    /// # Errors
    /// Torch does not tell.
    pub(super) fn shape(&self) -> Result<Vec<i64>, Failure> {
        let sizes = self.x.sizes()?;
        let channels = self.dimensions.channels.of(sizes).unwrap_or(&[]);
        Ok([&sizes[..self.dimensions.lead], channels].concat())
    }

    /// Groups of rows with parameters of their own.
    ///
    /// # Errors
    /// Torch does not tell.
    pub(super) fn groups(&self) -> Result<usize, Failure> {
        Ok(self.x.sizes()?[..self.dimensions.lead].iter().product::<i64>() as usize)
    }

    /// A new tensor that lies as x does.
    ///
    /// # Errors
    /// Torch has no memory.
    pub(super) fn like_x(&self) -> Result<Tensor, Failure> {
        Tensor::empty(self.x.sizes()?, self.x.strides()?, self.dtype, self.place)
    }

    /// A new tensor that lies as y does.
    ///
    /// # Errors
    /// Torch has no memory.
    pub(super) fn like_y(&self, dtype: DType) -> Result<Tensor, Failure> {
        Tensor::empty(self.x.sizes()?, self.y_strides()?, dtype, self.place)
    }

    fn y_strides(&self) -> Result<&[i64], Failure> {
        self.y.as_ref().map_or_else(|| self.x.strides(), |strides| Ok(strides))
    }

    /// The sizes and strides of a statistic: one value for each row, which lie in the order of the rows.
    fn statistics_shape(&self) -> Result<(&[i64], Vec<i64>), Failure> {
        let (sizes, strides) = (self.x.sizes()?, self.y_strides()?);
        let rows = self.dimensions.channels.first(sizes).unwrap_or(0);
        let cols = self.layout.cols.max(1) as i64;
        Ok((&sizes[..rows], strides[..rows].iter().map(|stride| stride / cols).collect()))
    }

    /// A new mean, rstd or scales.
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

    /// residual or dsum: a tensor of x's shape, with its elements where those of x are.
    ///
    /// # Errors
    /// Another shape, dtype or device than x has.
    pub(super) fn beside_x(&self, name: &str, tensor: Tensor) -> Result<Tensor, Failure> {
        self.beside(name, tensor, self.x.strides()?)
    }

    /// dy: a tensor of x's shape, with its elements where those of y are.
    ///
    /// # Errors
    /// Another shape, dtype or device than x has.
    pub(super) fn beside_y(&self, name: &str, tensor: Tensor) -> Result<Tensor, Failure> {
        self.beside(name, tensor, self.y_strides()?)
    }

    fn beside(&self, name: &str, tensor: Tensor, strides: &[i64]) -> Result<Tensor, Failure> {
        self.here(name, &tensor)?;
        let (actual, expected) = (tensor.sizes()?, self.x.sizes()?);
        if actual != expected {
            return Err(format!("dyt: {name} has shape {actual:?}, expected {expected:?}"));
        }
        let dtype = known(name, &tensor)?;
        if dtype == self.dtype && same(actual, tensor.strides()?, strides) {
            return Ok(tensor);
        }
        tensor.copy(strides, self.dtype)
    }

    /// alpha, shift or scale: one value in f32.
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

    /// Fails unless the tensor lies on x's device.
    ///
    /// # Errors
    /// It is elsewhere, or no tensor.
    pub(super) fn here(&self, name: &str, tensor: &Tensor) -> Result<(), Failure> {
        match tensor.place() {
            Ok(place) if place == self.place => Ok(()),
            Ok(_) => Err(format!("dyt: {name} lies on another device than x")),
            // torch hands over None as a tensor that is not defined.
            Err(_) => Err(format!("dyt: {name} is no tensor")),
        }
    }
}

/// The dtype of an argument.
///
/// # Errors
/// The kernels do not know it.
pub(super) fn known(name: &str, tensor: &Tensor) -> Result<DType, Failure> {
    tensor.dtype()?.map_err(|other| format!("dyt: {name} is {other}, expected float32, float16 or bfloat16"))
}
