//! A layer chosen by a model's configuration.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use dyt::Std;

use crate::{DEFAULT_ALPHA, Derf, DynamicTanh, LayerNorm, RmsNorm};

/// Which layer stands where normalisation stands. A model that keeps one in its configuration, and builds its norms by
/// [`NormKind::load`], changes from LayerNorm to DyT by this value alone.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use dyt_candle::NormKind;
///
/// struct Config {
///     width: usize,
///     norm: NormKind,
/// }
/// let config = Config { width: 8, norm: NormKind::dyt() };
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let norm = config.norm.load(config.width, vb.pp("norm"))?;
/// let y = norm.forward(&Tensor::zeros((2, config.width), DType::F32, &Device::Cpu)?)?;
/// assert_eq!(y.dims(), [2, 8]);
/// assert!(vars.data().lock().is_ok_and(|vars| vars.contains_key("norm.alpha")));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// [`LayerNorm`].
    LayerNorm {
        /// Keeps rstd finite.
        eps: f64,
        /// The form of the standard deviation.
        std: Std,
    },
    /// [`RmsNorm`].
    RmsNorm {
        /// Keeps rstd finite.
        eps: f64,
    },
    /// [`DynamicTanh`].
    DynamicTanh {
        /// Where alpha begins.
        alpha: f64,
    },
    /// [`Derf`], whose shift begins at 0.
    Derf {
        /// Where alpha begins.
        alpha: f64,
    },
}

impl NormKind {
    /// The usual LayerNorm, eps 1e-5.
    #[must_use]
    pub const fn layer_norm() -> Self {
        Self::LayerNorm { eps: 1e-5, std: Std::Biased }
    }
    /// RMSNorm, eps 1e-6.
    #[must_use]
    pub const fn rms_norm() -> Self {
        Self::RmsNorm { eps: 1e-6 }
    }
    /// DyT that begins at [`DEFAULT_ALPHA`].
    #[must_use]
    pub const fn dyt() -> Self {
        Self::DynamicTanh { alpha: DEFAULT_ALPHA }
    }
    /// Derf that begins at [`DEFAULT_ALPHA`].
    #[must_use]
    pub const fn derf() -> Self {
        Self::Derf { alpha: DEFAULT_ALPHA }
    }
    /// The same kind with alpha beginning elsewhere; a norm has none and stays as it is.
    #[must_use]
    pub const fn with_alpha(self, alpha: f64) -> Self {
        match self {
            Self::DynamicTanh { .. } => Self::DynamicTanh { alpha },
            Self::Derf { .. } => Self::Derf { alpha },
            Self::LayerNorm { .. } | Self::RmsNorm { .. } => self,
        }
    }
    /// The parameters of one element, and where they begin.
    pub(crate) fn scalars(self) -> Vec<(&'static str, f64)> {
        match self {
            Self::DynamicTanh { alpha } => vec![("alpha", alpha)],
            Self::Derf { alpha } => vec![("alpha", alpha), ("shift", 0.0)],
            Self::LayerNorm { .. } | Self::RmsNorm { .. } => Vec::new(),
        }
    }
    /// Whether [`Self::load`] asks for `bias`.
    pub(crate) const fn has_bias(self) -> bool {
        !matches!(self, Self::RmsNorm { .. })
    }
    /// The layer for `cols` channels, from `vb`.
    ///
    /// # Errors
    /// What `vb` says.
    pub fn load(self, cols: usize, vb: VarBuilder<'_>) -> Result<Norm> {
        Ok(match self {
            Self::LayerNorm { eps, std } => Norm::LayerNorm(LayerNorm::load(cols, eps, vb)?.with_std(std)),
            Self::RmsNorm { eps } => Norm::RmsNorm(RmsNorm::load(cols, eps, vb)?),
            Self::DynamicTanh { alpha } => Norm::DynamicTanh(DynamicTanh::load(cols, alpha, vb)?),
            Self::Derf { alpha } => Norm::Derf(Derf::load(cols, alpha, vb)?),
        })
    }
}

/// A layer of any [`NormKind`].
#[derive(Clone, Debug)]
pub enum Norm {
    /// LayerNorm.
    LayerNorm(LayerNorm),
    /// RMSNorm.
    RmsNorm(RmsNorm),
    /// DyT.
    DynamicTanh(DynamicTanh),
    /// Derf.
    Derf(Derf),
}

impl Module for Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::LayerNorm(layer) => layer.forward(x),
            Self::RmsNorm(layer) => layer.forward(x),
            Self::DynamicTanh(layer) => layer.forward(x),
            Self::Derf(layer) => layer.forward(x),
        }
    }
}
