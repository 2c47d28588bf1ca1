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
    /// From its parameters; alpha has one element.
    #[must_use]
    pub const fn new(alpha: Tensor, weight: Option<Tensor>, bias: Option<Tensor>) -> Self {
        Self { alpha, weight, bias, channels: Channels::Last }
    }
    /// From `alpha`, `weight` and `bias` in `vb`, or made there with that alpha, 1 and 0.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, alpha: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let alpha = scalar("alpha", alpha, &vb)?;
        Ok(Self::new(alpha, Some(gamma(cols, &vb)?), Some(beta(cols, &vb)?)))
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
    /// From its parameters; alpha and shift have one element each.
    #[must_use]
    pub const fn new(alpha: Tensor, shift: Tensor, weight: Option<Tensor>, bias: Option<Tensor>) -> Self {
        Self { alpha, shift, weight, bias, channels: Channels::Last }
    }
    /// From `alpha`, `shift`, `weight` and `bias` in `vb`, or made there with that alpha, 0, 1 and 0.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, alpha: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let (alpha, shift) = (scalar("alpha", alpha, &vb)?, scalar("shift", 0.0, &vb)?);
        Ok(Self::new(alpha, shift, Some(gamma(cols, &vb)?), Some(beta(cols, &vb)?)))
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
    /// From its parameters.
    #[must_use]
    pub const fn new(weight: Option<Tensor>, bias: Option<Tensor>, eps: f64) -> Self {
        Self { weight, bias, eps, std: Std::Biased, channels: Channels::Last }
    }
    /// From `weight` and `bias` in `vb`, or made there with 1 and 0.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self::new(Some(gamma(cols, &vb)?), Some(beta(cols, &vb)?), eps))
    }
    /// As [`Self::load`], without `bias`.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load_no_bias(cols: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self::new(Some(gamma(cols, &vb)?), None, eps))
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
    /// From its parameters.
    #[must_use]
    pub const fn new(weight: Option<Tensor>, bias: Option<Tensor>, eps: f64) -> Self {
        Self { weight, bias, eps, channels: Channels::Last }
    }
    /// From `weight` in `vb`, or made there with 1.
    ///
    /// # Errors
    /// What `vb` says.
    #[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
    pub fn load(cols: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self::new(Some(gamma(cols, &vb)?), None, eps))
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        func::rms_norm(x, self.affine(), self.eps, self.channels)
    }
}
