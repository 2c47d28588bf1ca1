//! The models with candle's norms.

#![expect(clippy::duplicate_mod, reason = "the same files with the norms of candle")]

/// What the model files `use`.
mod norms {
    pub(super) use candle_nn::{LayerNorm, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm};

    use candle_core::{D, DType, Module, Result, Tensor};
    use candle_nn::VarBuilder;

    /// As `RmsNorm` of candle_transformers' `with_tracing`: a builder goes in, candle_nn's fused op runs.
    #[derive(Clone, Debug)]
    pub(super) struct LlamaRmsNorm(RmsNorm);

    impl LlamaRmsNorm {
        pub(super) fn new(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
            rms_norm(size, eps, vb).map(Self)
        }
    }

    impl Module for LlamaRmsNorm {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            self.0.forward(x)
        }
    }

    /// As Gemma's model file computes it: the statistics in f32, then 1 + weight in the dtype of x.
    #[derive(Clone, Debug)]
    pub(super) struct GemmaRmsNorm {
        weight: Tensor,
        eps: f64,
    }

    impl GemmaRmsNorm {
        #[expect(clippy::needless_pass_by_value, reason = "the signature of the model file")]
        pub(super) fn new(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
            Ok(Self { weight: vb.get(size, "weight")?, eps })
        }
    }

    impl Module for GemmaRmsNorm {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            let dtype = x.dtype();
            let x = x.to_dtype(if dtype == DType::F64 { dtype } else { DType::F32 })?;
            let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
            x.broadcast_div(&scale)?.to_dtype(dtype)?.broadcast_mul(&(&self.weight + 1.0)?)
        }
    }
}

#[path = "bert.rs"]
pub(crate) mod bert;
#[path = "convnext.rs"]
pub(crate) mod convnext;
#[path = "decoder.rs"]
mod decoder;
#[path = "gemma.rs"]
pub(crate) mod gemma;
#[path = "llama.rs"]
pub(crate) mod llama;
#[path = "plain.rs"]
pub(crate) mod plain;
