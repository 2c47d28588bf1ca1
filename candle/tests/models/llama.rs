//! Llama's Pre-LN blocks, whose RmsNorm reads the builder.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use super::decoder::Mlp;
use super::norms::LlamaRmsNorm as RmsNorm;

const RMS_NORM_EPS: f64 = 1e-5;

#[derive(Clone)]
struct Block {
    rms_1: RmsNorm,
    rms_2: RmsNorm,
    mlp: Mlp,
}

impl Block {
    fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let mlp = Mlp::load(size, &vb.pp("mlp"))?;
        let rms_1 = RmsNorm::new(size, RMS_NORM_EPS, vb.pp("input_layernorm"))?;
        let rms_2 = RmsNorm::new(size, RMS_NORM_EPS, vb.pp("post_attention_layernorm"))?;
        Ok(Self { rms_1, rms_2, mlp })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.rms_1.forward(x)?)?;
        self.mlp.forward(&self.rms_2.forward(&x)?)? + &x
    }
}

#[derive(Clone)]
pub(crate) struct Model {
    blocks: Vec<Block>,
    ln_f: RmsNorm,
}

impl Model {
    pub(crate) fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let ln_f = RmsNorm::new(size, RMS_NORM_EPS, vb.pp("model.norm"))?;
        let blocks = (0..2).map(|i| Block::load(size, &vb.pp(format!("model.layers.{i}"))));
        Ok(Self { blocks: blocks.collect::<Result<_>>()?, ln_f })
    }
}

impl Module for Model {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.ln_f.forward(&x)
    }
}
