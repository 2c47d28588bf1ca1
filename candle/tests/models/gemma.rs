//! Gemma's Pre-LN blocks, whose RmsNorm multiplies by 1 + weight, and whose last norm reads a narrowed view.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::decoder::Mlp;
use super::norms::GemmaRmsNorm as RmsNorm;

const RMS_NORM_EPS: f64 = 1e-6;

#[derive(Clone)]
struct DecoderLayer {
    mlp: Mlp,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
}

impl DecoderLayer {
    fn new(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let mlp = Mlp::load(size, &vb.pp("mlp"))?;
        let input_layernorm = RmsNorm::new(size, RMS_NORM_EPS, vb.pp("input_layernorm"))?;
        let post_attention_layernorm = RmsNorm::new(size, RMS_NORM_EPS, vb.pp("post_attention_layernorm"))?;
        Ok(Self { mlp, input_layernorm, post_attention_layernorm })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = (xs + self.input_layernorm.forward(xs)?)?;
        let residual = &xs;
        let xs = xs.apply(&self.post_attention_layernorm)?.apply(&self.mlp)?;
        residual + xs
    }
}

#[derive(Clone)]
pub(crate) struct Model {
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
}

impl Model {
    pub(crate) fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let layers = (0..2).map(|i| DecoderLayer::new(size, &vb.pp(format!("layers.{i}"))));
        let norm = RmsNorm::new(size, RMS_NORM_EPS, vb.pp("norm"))?;
        Ok(Self { layers: layers.collect::<Result<_>>()?, norm })
    }
}

impl Module for Model {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let tokens = xs.dim(1)?;
        let mut xs = xs.clone();
        for layer in &self.layers {
            xs = layer.forward(&xs)?;
        }
        xs.narrow(1, 1, tokens - 1)?.apply(&self.norm)
    }
}
