//! The layers.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use dyt::Std;

use crate::func::{self, Affine, Channels};

/// gamma, made as 1 where it is not loaded.
fn gamma(cols: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    vb.get_with_hints(cols, "weight", Init::Const(1.0))
}

/// beta, made as 0 where it is not loaded.
fn beta(cols: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    vb.get_with_hints(cols, "bias", Init::Const(0.0))
}

/// A parameter of one element.
fn scalar(name: &str, initial: f64, vb: &VarBuilder<'_>) -> Result<Tensor> {
    vb.get_with_hints(1, name, Init::Const(initial))
}

/// What every layer can do.
macro_rules! layer {
    ($name:ident) => {
        impl $name {
            /// The same layer on tensors whose channels lie so.
            #[must_use]
            pub fn with_channels(self, channels: Channels) -> Self {
                Self { channels, ..self }
            }
            /// The same layer with this gamma.
            #[must_use]
            pub fn with_weight(self, weight: Tensor) -> Self {
                Self { weight: Some(weight), ..self }
            }
            /// The same layer with this beta.
            #[must_use]
            pub fn with_bias(self, bias: Tensor) -> Self {
                Self { bias: Some(bias), ..self }
            }
            /// gamma.
            #[must_use]
            pub const fn weight(&self) -> Option<&Tensor> {
                self.weight.as_ref()
            }
            /// beta.
            #[must_use]
            pub const fn bias(&self) -> Option<&Tensor> {
                self.bias.as_ref()
            }
            const fn affine(&self) -> Affine<'_> {
                Affine { weight: self.weight.as_ref(), bias: self.bias.as_ref() }
            }
        }
    };
}

/// DyT: y = gamma·tanh(alpha·x) + beta.
#[derive(Clone, Debug)]
pub struct DynamicTanh {
    alpha: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    channels: Channels,
}

layer!(DynamicTanh);

impl DynamicTanh {
    /// With this alpha, which has one element, and neither gamma nor beta.
    #[must_use]
    pub const fn new(alpha: Tensor) -> Self {
        Self { alpha, weight: None, bias: None, channels: Channels::Last }
    }
    /// From `alpha`, `weight` and `bias` in `vb`, or made there with that alpha, 1 and 0.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, alpha: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let layer = Self::new(scalar("alpha", alpha, &vb)?);
        Ok(layer.with_weight(gamma(cols, &vb)?).with_bias(beta(cols, &vb)?))
    }
    /// alpha.
    #[must_use]
    pub const fn alpha(&self) -> &Tensor {
        &self.alpha
    }
}

impl Module for DynamicTanh {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        func::dynamic_tanh(x, &self.alpha, self.affine(), self.channels)
    }
}

/// Derf: y = gamma·erf(alpha·x + shift) + beta.
#[derive(Clone, Debug)]
pub struct Derf {
    alpha: Tensor,
    shift: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    channels: Channels,
}

layer!(Derf);

impl Derf {
    /// With this alpha, which has one element, shift 0, and neither gamma nor beta.
    ///
    /// # Errors
    /// What candle says of making the shift.
    pub fn new(alpha: Tensor) -> Result<Self> {
        let shift = alpha.zeros_like()?;
        Ok(Self { alpha, shift, weight: None, bias: None, channels: Channels::Last })
    }
    /// The same layer with this shift, which has one element.
    #[must_use]
    pub fn with_shift(self, shift: Tensor) -> Self {
        Self { shift, ..self }
    }
    /// From `alpha`, `shift`, `weight` and `bias` in `vb`, or made there with that alpha, 0, 1 and 0.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, alpha: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let layer = Self::new(scalar("alpha", alpha, &vb)?)?.with_shift(scalar("shift", 0.0, &vb)?);
        Ok(layer.with_weight(gamma(cols, &vb)?).with_bias(beta(cols, &vb)?))
    }
    /// alpha.
    #[must_use]
    pub const fn alpha(&self) -> &Tensor {
        &self.alpha
    }
    /// shift.
    #[must_use]
    pub const fn shift(&self) -> &Tensor {
        &self.shift
    }
}

impl Module for Derf {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        func::derf(x, &self.alpha, &self.shift, self.affine(), self.channels)
    }
}

/// LayerNorm: y = (x − mean)·rstd·gamma + beta.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    eps: f64,
    std: Std,
    channels: Channels,
}

layer!(LayerNorm);

impl LayerNorm {
    /// From its parameters, in candle_nn's order.
    #[must_use]
    pub const fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight: Some(weight), bias: Some(bias), eps, std: Std::Biased, channels: Channels::Last }
    }
    /// As [`Self::new`], without beta.
    #[must_use]
    pub const fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self { weight: Some(weight), bias: None, eps, std: Std::Biased, channels: Channels::Last }
    }
    /// From `weight` and `bias` in `vb`, or made there with 1 and 0.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self::new(gamma(cols, &vb)?, beta(cols, &vb)?, eps))
    }
    /// As [`Self::load`], without `bias`.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load_no_bias(cols: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self::new_no_bias(gamma(cols, &vb)?, eps))
    }
    /// The same layer with this form of the standard deviation.
    #[must_use]
    pub fn with_std(self, std: Std) -> Self {
        Self { std, ..self }
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        func::layer_norm(x, self.affine(), self.eps, self.std, self.channels)
    }
}

/// RMSNorm: y = x·rstd·gamma (+ beta, if there is one).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    eps: f64,
    channels: Channels,
}

layer!(RmsNorm);

impl RmsNorm {
    /// From its parameters, in candle_nn's order.
    #[must_use]
    pub const fn new(weight: Tensor, eps: f64) -> Self {
        Self { weight: Some(weight), bias: None, eps, channels: Channels::Last }
    }
    /// From `weight` in `vb`, or made there with 1.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self::new(gamma(cols, &vb)?, eps))
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        func::rms_norm(x, self.affine(), self.eps, self.channels)
    }
}
