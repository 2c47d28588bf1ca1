//! Element types, and the pairs of them that a problem may have.

use core::fmt;

use half::{bf16, f16};

use crate::{Error, Quant, Result};

/// The type in which elements are stored. Arithmetic is f32 whatever the storage type. Data and parameters are f32, f16 or
/// bf16; a y that the problem quantises has the type of its [`Quant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// The type of a quantised y.
    Quant(Quant),
}

impl DType {
    /// Every dtype that data may have.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Quant(_) => 1,
        }
    }

    /// The name in lower case: `f32`, `f16`, `bf16`, or that of the [`Quant`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Quant(quant) => quant.name(),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The dtype of the data and that of the parameters, in each pair that a problem may have: gamma and beta are stored as
/// the data or as f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Data and parameters in f32.
    F32,
    /// Data and parameters in f16.
    F16,
    /// Data in f16, parameters in f32.
    F16ParamsF32,
    /// Data and parameters in bf16.
    Bf16,
    /// Data in bf16, parameters in f32.
    Bf16ParamsF32,
}

impl Storage {
    /// Every pair.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::F16ParamsF32, Self::Bf16, Self::Bf16ParamsF32];

    /// The pair of these dtypes.
    ///
    /// # Errors
    /// [`Error::ParamDtype`] if `param_dtype` is neither `dtype` nor f32; [`Error::DataDtype`] if one of them is the type of a
    /// quantised y.
    pub const fn new(dtype: DType, param_dtype: DType) -> Result<Self> {
        match (dtype, param_dtype) {
            (DType::F32, DType::F32) => Ok(Self::F32),
            (DType::F16, DType::F16) => Ok(Self::F16),
            (DType::F16, DType::F32) => Ok(Self::F16ParamsF32),
            (DType::Bf16, DType::Bf16) => Ok(Self::Bf16),
            (DType::Bf16, DType::F32) => Ok(Self::Bf16ParamsF32),
            (DType::F32, DType::F16 | DType::Bf16)
            | (DType::F16, DType::Bf16)
            | (DType::Bf16, DType::F16) => Err(Error::ParamDtype { dtype, param_dtype }),
            (DType::Quant(quant), _) | (_, DType::Quant(quant)) => Err(Error::DataDtype { quant }),
        }
    }

    /// The dtype of x, y, dy and dx.
    #[must_use]
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 | Self::F16ParamsF32 => DType::F16,
            Self::Bf16 | Self::Bf16ParamsF32 => DType::Bf16,
        }
    }

    /// The dtype of gamma and beta.
    #[must_use]
    pub const fn param_dtype(self) -> DType {
        match self {
            Self::F32 | Self::F16ParamsF32 | Self::Bf16ParamsF32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::Bf16,
        }
    }
}

/// A Rust type that buffers may hold: [`f32`], [`half::f16`] or [`half::bf16`], and for a quantised y [`float8::F8E4M3`],
/// [`float8::F8E5M2`] or [`i8`]. Sealed.
pub trait Element: bytemuck::Pod + Send + Sync + sealed::Sealed {
    /// The tag of this type.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for f16 {
    const DTYPE: DType = DType::F16;
}
impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;
}

pub(crate) mod sealed {
    /// Keeps [`super::Element`] to this crate.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}
