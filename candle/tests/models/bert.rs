//! BERT's Post-LN layers: a norm behind the embeddings, one behind each residual connection, and eps 1e-12.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear};

use super::norms::{LayerNorm, layer_norm};

const LAYER_NORM_EPS: f64 = 1e-12;

#[derive(Clone)]
struct Output {
    dense: Linear,
    layer_norm: LayerNorm,
}

impl Output {
    fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let dense = linear(size, size, vb.pp("dense"))?;
        let layer_norm = layer_norm(size, LAYER_NORM_EPS, vb.pp("LayerNorm"))?;
        Ok(Self { dense, layer_norm })
    }

    fn forward(&self, hidden: &Tensor, input: &Tensor) -> Result<Tensor> {
        let hidden = self.dense.forward(hidden)?;
        self.layer_norm.forward(&(hidden + input)?)
    }
}

#[derive(Clone)]
pub(crate) struct Model {
    embeddings: LayerNorm,
    layers: Vec<Output>,
}

impl Model {
    pub(crate) fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let embeddings = layer_norm(size, LAYER_NORM_EPS, vb.pp("embeddings").pp("LayerNorm"))?;
        let layers = (0..2).map(|i| Output::load(size, &vb.pp(format!("layer.{i}.output"))));
        Ok(Self { embeddings, layers: layers.collect::<Result<_>>()? })
    }
}

impl Module for Model {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.embeddings.forward(x)?;
        for layer in &self.layers {
            x = layer.forward(&x.gelu()?, &x)?;
        }
        Ok(x)
    }
}
