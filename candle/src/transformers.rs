//! The norms that the model files of candle_transformers define for themselves, with the constructors of those files.
//!
//! | in the model file | here |
//! |---|---|
//! | `use super::with_tracing::RmsNorm;` (Llama, Mistral, Qwen, …) | `use dyt_candle::transformers::RmsNorm;` |
//! | its own `struct RmsNorm` with 1 + weight (Gemma) | `use dyt_candle::transformers::GemmaRmsNorm as RmsNorm;` |
//!
//! `RmsNorm::new(size, eps, vb)` of these files and `RmsNorm::new(weight, eps)` of candle_nn cannot be one function;
//! hence a type for each. `layer_norm` and `LayerNorm` of `with_tracing` are those of this crate's root.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::Gamma;

/// A type around [`crate::RmsNorm`] whose constructor reads the builder.
macro_rules! rms_norm {
    ($(#[$doc:meta])+ $name:ident, $gamma:expr) => {
        $(#[$doc])+
        #[derive(Clone, Debug)]
        pub struct $name(crate::RmsNorm);

        impl $name {
            /// For `size` channels, from `weight` in `vb`, or made there with gamma 1.
            ///
            /// # Errors
            /// What `vb` says.
            pub fn new(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
                crate::RmsNorm::load(size, eps, $gamma, &vb).map(Self)
            }
            /// The forward, under the name of the one that has gradients in candle_transformers; here both have them.
            ///
            /// # Errors
            /// As [`crate::ops::rms_norm`].
            pub fn forward_diff(&self, x: &Tensor) -> Result<Tensor> {
                self.0.forward(x)
            }
            /// y of sum = x + residual, and the sum, which goes on to the next layer.
            ///
            /// # Errors
            /// As [`crate::ops::add_rms_norm`].
            pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
                self.0.forward_with_residual(x, residual)
            }
            /// The weight.
            #[must_use]
            pub const fn weight(&self) -> &Tensor {
                self.0.weight()
            }
            /// The layer itself.
            #[must_use]
            pub fn into_inner(self) -> crate::RmsNorm {
                self.0
            }
        }

        impl Module for $name {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                self.0.forward(x)
            }
        }
    };
}

rms_norm!(
    /// RMSNorm: y = x·rstd·weight, as `with_tracing::RmsNorm`.
    RmsNorm,
    Gamma::Weight
);
rms_norm!(
    /// Gemma's RMSNorm: y = x·rstd·(1 + weight). For 16-bit x, 1 + weight is taken in f32.
    GemmaRmsNorm,
    Gamma::OnePlusWeight
);
