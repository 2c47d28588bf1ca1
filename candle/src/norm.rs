//! A layer chosen by a model's configuration.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use dyt::Std;

use crate::{
    Channels, DEFAULT_ALPHA, Derf, DynamicTanh, Gamma, LayerNorm, LayerNormConfig, RmsNorm, derf,
    dynamic_tanh,
};

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
///
/// With the feature `serde` it is part of a configuration file: `{"layer_norm": {"eps": 1e-12}}`, `{"dyt": {}}`. There eps
/// has no default, so that none is taken in silence.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub enum NormKind {
    /// [`LayerNorm`].
    LayerNorm {
        /// Keeps rstd finite.
        eps: f64,
        /// The form of the standard deviation.
        #[cfg_attr(feature = "serde", serde(default, with = "StdName"))]
        std: Std,
        /// How gamma is read from `weight`.
        #[cfg_attr(feature = "serde", serde(default))]
        gamma: Gamma,
    },
    /// [`RmsNorm`].
    RmsNorm {
        /// Keeps rstd finite.
        eps: f64,
        /// How gamma is read from `weight`.
        #[cfg_attr(feature = "serde", serde(default))]
        gamma: Gamma,
    },
    /// [`DynamicTanh`].
    #[cfg_attr(feature = "serde", serde(rename = "dyt"))]
    DynamicTanh {
        /// Where alpha begins.
        #[cfg_attr(feature = "serde", serde(default = "default_alpha"))]
        alpha: f64,
    },
    /// [`Derf`], whose shift begins at 0.
    Derf {
        /// Where alpha begins.
        #[cfg_attr(feature = "serde", serde(default = "default_alpha"))]
        alpha: f64,
    },
}

#[cfg(feature = "serde")]
const fn default_alpha() -> f64 {
    DEFAULT_ALPHA
}

/// How serde writes [`Std`], which is of a crate without serde.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "Std", rename_all = "snake_case")]
enum StdName {
    Biased,
    Unbiased,
}

impl NormKind {
    /// The usual LayerNorm, eps 1e-5 as in PyTorch. BERT has 1e-12, ConvNeXt 1e-6: [`Self::with_eps`].
    #[must_use]
    pub const fn layer_norm() -> Self {
        Self::LayerNorm { eps: 1e-5, std: Std::Biased, gamma: Gamma::Weight }
    }
    /// RMSNorm, eps 1e-6. Some models have 1e-5: [`Self::with_eps`].
    #[must_use]
    pub const fn rms_norm() -> Self {
        Self::RmsNorm { eps: 1e-6, gamma: Gamma::Weight }
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
    /// The same kind with this eps; DyT and Derf have none and stay as they are. A model whose configuration has an eps
    /// of its own writes `config.norm.with_eps(config.layer_norm_eps).load(…)`.
    #[must_use]
    pub const fn with_eps(self, eps: f64) -> Self {
        match self {
            Self::LayerNorm { std, gamma, .. } => Self::LayerNorm { eps, std, gamma },
            Self::RmsNorm { gamma, .. } => Self::RmsNorm { eps, gamma },
            Self::DynamicTanh { .. } | Self::Derf { .. } => self,
        }
    }
    /// eps of LayerNorm and RMSNorm.
    #[must_use]
    pub const fn eps(self) -> Option<f64> {
        match self {
            Self::LayerNorm { eps, .. } | Self::RmsNorm { eps, .. } => Some(eps),
            Self::DynamicTanh { .. } | Self::Derf { .. } => None,
        }
    }
    /// The same kind with gamma read like this; `weight` of DyT and Derf is gamma, and they stay as they are.
    #[must_use]
    pub const fn with_gamma(self, gamma: Gamma) -> Self {
        match self {
            Self::LayerNorm { eps, std, .. } => Self::LayerNorm { eps, std, gamma },
            Self::RmsNorm { eps, .. } => Self::RmsNorm { eps, gamma },
            Self::DynamicTanh { .. } | Self::Derf { .. } => self,
        }
    }
    /// How gamma is read from `weight`.
    #[must_use]
    pub const fn gamma(self) -> Gamma {
        match self {
            Self::LayerNorm { gamma, .. } | Self::RmsNorm { gamma, .. } => gamma,
            Self::DynamicTanh { .. } | Self::Derf { .. } => Gamma::Weight,
        }
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
    /// The layer for `size` channels, from `vb`.
    ///
    /// # Errors
    /// What `vb` says.
    pub fn load(self, size: usize, vb: VarBuilder<'_>) -> Result<Norm> {
        Ok(match self {
            Self::LayerNorm { eps, std, gamma } => {
                let config = LayerNormConfig::from(eps);
                Norm::LayerNorm(LayerNorm::load(size, config, gamma, &vb)?.with_std(std))
            }
            Self::RmsNorm { eps, gamma } => Norm::RmsNorm(RmsNorm::load(size, eps, gamma, &vb)?),
            Self::DynamicTanh { alpha } => Norm::DynamicTanh(dynamic_tanh(size, alpha, vb)?),
            Self::Derf { alpha } => Norm::Derf(derf(size, alpha, vb)?),
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

impl Norm {
    /// The same layer on tensors whose channels lie so.
    #[must_use]
    pub fn with_channels(self, channels: Channels) -> Self {
        match self {
            Self::LayerNorm(layer) => Self::LayerNorm(layer.with_channels(channels)),
            Self::RmsNorm(layer) => Self::RmsNorm(layer.with_channels(channels)),
            Self::DynamicTanh(layer) => Self::DynamicTanh(layer.with_channels(channels)),
            Self::Derf(layer) => Self::Derf(layer.with_channels(channels)),
        }
    }

    /// y of sum = x + residual, and the sum, which goes on to the next layer.
    ///
    /// # Errors
    /// As [`ops::add_dynamic_tanh`](crate::ops::add_dynamic_tanh).
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        match self {
            Self::LayerNorm(layer) => layer.forward_with_residual(x, residual),
            Self::RmsNorm(layer) => layer.forward_with_residual(x, residual),
            Self::DynamicTanh(layer) => layer.forward_with_residual(x, residual),
            Self::Derf(layer) => layer.forward_with_residual(x, residual),
        }
    }

    /// y as F8E4M3, and the scale or the scales that it was divided by.
    ///
    /// # Errors
    /// As [`ops::quantised_dynamic_tanh`](crate::ops::quantised_dynamic_tanh).
    pub fn forward_quantised(&self, x: &Tensor, scale: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        match self {
            Self::LayerNorm(layer) => layer.forward_quantised(x, scale),
            Self::RmsNorm(layer) => layer.forward_quantised(x, scale),
            Self::DynamicTanh(layer) => layer.forward_quantised(x, scale),
            Self::Derf(layer) => layer.forward_quantised(x, scale),
        }
    }

    /// y·(1 + scale) + shift, as AdaLN modulates a norm; see [`LayerNorm::modulate`].
    ///
    /// # Errors
    /// As [`ops::layer_norm`](crate::ops::layer_norm).
    pub fn modulate(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        match self {
            Self::LayerNorm(layer) => layer.modulate(x, scale, shift),
            Self::RmsNorm(layer) => layer.modulate(x, scale, shift),
            Self::DynamicTanh(layer) => layer.modulate(x, scale, shift),
            Self::Derf(layer) => layer.modulate(x, scale, shift),
        }
    }
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
