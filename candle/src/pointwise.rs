//! The layers without statistics: DyT and Derf.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::ops::{self, Affine};
use crate::{Channels, load};

/// What both layers can do.
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
            /// y·(1 + scale) + shift, as AdaLN modulates a norm: scale and shift are `[batch, channels]` beside x of
            /// `[batch, …, channels]`, or channels-first of `[batch, channels, …]`.
            ///
            /// # Errors
            /// As [`ops::dynamic_tanh`].
            pub fn modulate(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
                self.apply(x, self.affine().modulate(scale, shift)?.affine())
            }
            const fn affine(&self) -> Affine<'_> {
                Affine { weight: self.weight.as_ref(), bias: self.bias.as_ref(), offset: 0.0 }
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
    /// alpha.
    #[must_use]
    pub const fn alpha(&self) -> &Tensor {
        &self.alpha
    }
    /// y of sum = x + residual, and the sum, which goes on to the next layer.
    ///
    /// # Errors
    /// As [`ops::add_dynamic_tanh`].
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::add_dynamic_tanh(x, residual, &self.alpha, self.affine(), self.channels)
    }
    /// y as F8E4M3, and the scale or the scales that it was divided by.
    ///
    /// # Errors
    /// As [`ops::quantised_dynamic_tanh`].
    pub fn forward_quantised(&self, x: &Tensor, scale: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        ops::quantised_dynamic_tanh(x, &self.alpha, self.affine(), self.channels, scale)
    }
    fn apply(&self, x: &Tensor, affine: Affine<'_>) -> Result<Tensor> {
        ops::dynamic_tanh(x, &self.alpha, affine, self.channels)
    }
}

impl Module for DynamicTanh {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, self.affine())
    }
}

/// DyT for `size` channels, from `alpha`, `weight` and `bias` in `vb`, or made there with that alpha, 1 and 0. A loaded
/// alpha has the shape `[1]` or `[]`.
///
/// # Errors
/// What `vb` says.
#[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
pub fn dynamic_tanh(size: usize, alpha: f64, vb: VarBuilder<'_>) -> Result<DynamicTanh> {
    let layer = DynamicTanh::new(load::scalar("alpha", alpha, &vb)?);
    Ok(layer.with_weight(load::weight(size, 1.0, &vb)?).with_bias(load::bias(size, &vb)?))
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
    /// y of sum = x + residual, and the sum, which goes on to the next layer.
    ///
    /// # Errors
    /// As [`ops::add_derf`].
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::add_derf(x, residual, &self.alpha, &self.shift, self.affine(), self.channels)
    }
    /// y as F8E4M3, and the scale or the scales that it was divided by.
    ///
    /// # Errors
    /// As [`ops::quantised_derf`].
    pub fn forward_quantised(&self, x: &Tensor, scale: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        ops::quantised_derf(x, &self.alpha, &self.shift, self.affine(), self.channels, scale)
    }
    fn apply(&self, x: &Tensor, affine: Affine<'_>) -> Result<Tensor> {
        ops::derf(x, &self.alpha, &self.shift, affine, self.channels)
    }
}

impl Module for Derf {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, self.affine())
    }
}

/// Derf for `size` channels, from `alpha`, `shift`, `weight` and `bias` in `vb`, or made there with that alpha, 0, 1
/// and 0. A loaded alpha or shift has the shape `[1]` or `[]`.
///
/// # Errors
/// What `vb` says.
#[expect(clippy::needless_pass_by_value, reason = "builders are handed over, as everywhere in candle")]
pub fn derf(size: usize, alpha: f64, vb: VarBuilder<'_>) -> Result<Derf> {
    let layer = Derf::new(load::scalar("alpha", alpha, &vb)?)?.with_shift(load::scalar("shift", 0.0, &vb)?);
    Ok(layer.with_weight(load::weight(size, 1.0, &vb)?).with_bias(load::bias(size, &vb)?))
}
