//! The layers with statistics, by candle_nn's names: LayerNorm and RMSNorm.

use candle_core::{Module, Result, Tensor};
use candle_nn::{LayerNormConfig, VarBuilder};
use dyt::Std;

use crate::ops::{self, Affine};
use crate::{Channels, Gamma, load};

/// LayerNorm: y = (x − mean)·rstd·gamma + beta, with every constructor and getter of [`candle_nn::LayerNorm`].
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
    std: Std,
    remove_mean: bool,
    gamma: Gamma,
    channels: Channels,
}

impl LayerNorm {
    const fn with(weight: Tensor, bias: Option<Tensor>, eps: f64, remove_mean: bool) -> Self {
        let (std, gamma, channels) = (Std::Biased, Gamma::Weight, Channels::Last);
        Self { weight, bias, eps, std, remove_mean, gamma, channels }
    }
    /// From gamma and beta.
    #[must_use]
    pub const fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self::with(weight, Some(bias), eps, true)
    }
    /// As [`Self::new`], without beta.
    #[must_use]
    pub const fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self::with(weight, None, eps, true)
    }
    /// RMSNorm as a value of this type: no mean is subtracted.
    #[must_use]
    pub const fn rms_norm(weight: Tensor, eps: f64) -> Self {
        Self::with(weight, None, eps, false)
    }
    /// From `vb`; a weight that is made there has gamma 1.
    pub(crate) fn load(
        size: usize,
        config: LayerNormConfig,
        gamma: Gamma,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let weight = load::weight(size, gamma.initial(), vb)?;
        let bias = config.affine.then(|| load::bias(size, vb)).transpose()?;
        Ok(Self::with(weight, bias, config.eps, config.remove_mean).with_gamma(gamma))
    }
    /// The same layer with this eps.
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }
    /// The same layer with this form of the standard deviation, which counts where the mean is removed.
    #[must_use]
    pub fn with_std(self, std: Std) -> Self {
        Self { std, ..self }
    }
    /// The same layer on tensors whose channels lie so.
    #[must_use]
    pub fn with_channels(self, channels: Channels) -> Self {
        Self { channels, ..self }
    }
    /// The same layer with this beta.
    #[must_use]
    pub fn with_bias(self, bias: Tensor) -> Self {
        Self { bias: Some(bias), ..self }
    }
    /// The same layer and the same weight, from which gamma is read like this.
    #[must_use]
    pub fn with_gamma(self, gamma: Gamma) -> Self {
        Self { gamma, ..self }
    }
    /// The weight: gamma, unless [`Self::with_gamma`] says otherwise.
    #[must_use]
    pub const fn weight(&self) -> &Tensor {
        &self.weight
    }
    /// beta.
    #[must_use]
    pub const fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
    /// eps.
    #[must_use]
    pub const fn eps(&self) -> f64 {
        self.eps
    }
    /// Whether the mean is subtracted; where it is not, this is RMSNorm.
    #[must_use]
    pub const fn remove_mean(&self) -> bool {
        self.remove_mean
    }
    /// y of sum = x + residual, and the sum, which goes on to the next layer.
    ///
    /// # Errors
    /// As [`ops::add_layer_norm`].
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        if self.remove_mean {
            ops::add_layer_norm(x, residual, self.affine(), self.eps, self.std, self.channels)
        } else {
            ops::add_rms_norm(x, residual, self.affine(), self.eps, self.channels)
        }
    }
    /// y·(1 + scale) + shift, as AdaLN modulates a norm: scale and shift are `[batch, channels]` beside x of
    /// `[batch, …, channels]`, or channels-first of `[batch, channels, …]`.
    ///
    /// # Errors
    /// As [`ops::layer_norm`].
    pub fn modulate(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        self.apply(x, self.affine().modulate(scale, shift)?.affine())
    }
    /// y as F8E4M3, and the scale or the scales that it was divided by.
    ///
    /// # Errors
    /// As [`ops::quantised_layer_norm`].
    pub fn forward_quantised(&self, x: &Tensor, scale: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        if self.remove_mean {
            ops::quantised_layer_norm(x, self.affine(), self.eps, self.std, self.channels, scale)
        } else {
            ops::quantised_rms_norm(x, self.affine(), self.eps, self.channels, scale)
        }
    }
    fn apply(&self, x: &Tensor, affine: Affine<'_>) -> Result<Tensor> {
        if self.remove_mean {
            ops::layer_norm(x, affine, self.eps, self.std, self.channels)
        } else {
            ops::rms_norm(x, affine, self.eps, self.channels)
        }
    }
    fn affine(&self) -> Affine<'_> {
        let offset = self.gamma.offset() as f32;
        Affine { weight: Some(&self.weight), bias: self.bias.as_ref(), offset }
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, self.affine())
    }
}

/// LayerNorm for `size` channels, from `weight` and `bias` in `vb`, or made there with 1 and 0. Checkpoints that call
/// them `gamma` and `beta` are loaded too.
///
/// `config` is eps, or candle_nn's [`LayerNormConfig`]: without `affine` there is no bias, without `remove_mean` the
/// layer is RMSNorm.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use candle_nn::VarBuilder;
/// use dyt_candle::{LayerNorm, layer_norm};
///
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let norm: LayerNorm = layer_norm(8, 1e-12, vb.pp("LayerNorm"))?;
/// assert_eq!(norm.forward(&Tensor::ones((2, 8), DType::F32, &Device::Cpu)?)?.dims(), [2, 8]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// What `vb` says.
#[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
pub fn layer_norm<C: Into<LayerNormConfig>>(size: usize, config: C, vb: VarBuilder<'_>) -> Result<LayerNorm> {
    LayerNorm::load(size, config.into(), Gamma::Weight, &vb)
}

/// As [`layer_norm`], without `bias`.
///
/// # Errors
/// What `vb` says.
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<LayerNorm> {
    layer_norm(size, LayerNormConfig { affine: false, ..eps.into() }, vb)
}

/// RMSNorm: y = x·rstd·gamma, with every constructor and getter of [`candle_nn::RmsNorm`].
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// From gamma.
    #[must_use]
    pub const fn new(weight: Tensor, eps: f64) -> Self {
        Self(LayerNorm::rms_norm(weight, eps))
    }
    /// From `vb`; a weight that is made there has gamma 1.
    pub(crate) fn load(size: usize, eps: f64, gamma: Gamma, vb: &VarBuilder<'_>) -> Result<Self> {
        let config = LayerNormConfig { eps, remove_mean: false, affine: false };
        LayerNorm::load(size, config, gamma, vb).map(Self)
    }
    /// The same layer with this eps.
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self(self.0.with_eps(eps))
    }
    /// The same layer on tensors whose channels lie so.
    #[must_use]
    pub fn with_channels(self, channels: Channels) -> Self {
        Self(self.0.with_channels(channels))
    }
    /// The same layer that also adds this beta.
    #[must_use]
    pub fn with_bias(self, bias: Tensor) -> Self {
        Self(self.0.with_bias(bias))
    }
    /// The same layer and the same weight, from which gamma is read like this.
    #[must_use]
    pub fn with_gamma(self, gamma: Gamma) -> Self {
        Self(self.0.with_gamma(gamma))
    }
    /// The weight: gamma, unless [`Self::with_gamma`] says otherwise.
    #[must_use]
    pub const fn weight(&self) -> &Tensor {
        self.0.weight()
    }
    /// beta.
    #[must_use]
    pub const fn bias(&self) -> Option<&Tensor> {
        self.0.bias()
    }
    /// eps.
    #[must_use]
    pub const fn eps(&self) -> f64 {
        self.0.eps()
    }
    /// The same layer as a [`LayerNorm`] that removes no mean.
    #[must_use]
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }
    /// The forward. candle_nn needs a second one for gradients; here both have them.
    ///
    /// # Errors
    /// As [`ops::rms_norm`].
    pub fn forward_diff(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }
    /// y of sum = x + residual, and the sum, which goes on to the next layer.
    ///
    /// # Errors
    /// As [`ops::add_rms_norm`].
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        self.0.forward_with_residual(x, residual)
    }
    /// As [`LayerNorm::modulate`].
    ///
    /// # Errors
    /// As [`ops::rms_norm`].
    pub fn modulate(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        self.0.modulate(x, scale, shift)
    }
    /// y as F8E4M3, and the scale or the scales that it was divided by.
    ///
    /// # Errors
    /// As [`ops::quantised_rms_norm`].
    pub fn forward_quantised(&self, x: &Tensor, scale: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.0.forward_quantised(x, scale)
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

/// RMSNorm for `size` channels, from `weight` in `vb` (or `gamma`, in older checkpoints), or made there with 1.
///
/// # Errors
/// What `vb` says.
#[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<RmsNorm> {
    RmsNorm::load(size, eps, Gamma::Weight, &vb)
}
