//! The block.

use candle_core::{D, Device, Module, Result, Tensor};
use candle_nn::ops::softmax;
use candle_nn::{Linear, VarBuilder, linear};
use dyt_candle::{Norm, NormKind};

/// Attention, then a feed-forward network four times as wide, each behind its norm and around a residual connection.
pub(crate) struct Block {
    heads: usize,
    norm1: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: Norm,
    up: Linear,
    down: Linear,
}

impl Block {
    /// A block with the variables in `vb`.
    pub(crate) fn new(width: usize, heads: usize, norm: NormKind, vb: &VarBuilder<'_>) -> Result<Self> {
        let square = |name| linear(width, width, vb.pp(name));
        Ok(Self {
            heads,
            norm1: norm.load(width, vb.pp("norm1"))?,
            q: square("q")?,
            k: square("k")?,
            v: square("v")?,
            out: square("out")?,
            norm2: norm.load(width, vb.pp("norm2"))?,
            up: linear(width, 4 * width, vb.pp("up"))?,
            down: linear(4 * width, width, vb.pp("down"))?,
        })
    }

    /// Of `batch × tokens × width`, with a mask `tokens × tokens` that is added to the scores.
    pub(crate) fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&self.norm1.forward(x)?, mask)?)?;
        let hidden = self.up.forward(&self.norm2.forward(&x)?)?.relu()?;
        &x + self.down.forward(&hidden)?
    }

    fn attention(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let size = width / self.heads;
        let split = |layer: &Linear| {
            layer.forward(x)?.reshape((batch, tokens, self.heads, size))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (split(&self.q)?, split(&self.k)?, split(&self.v)?);
        let scores = (q.matmul(&k.t()?)? / (size as f64).sqrt())?.broadcast_add(mask)?;
        let mixed = softmax(&scores, D::Minus1)?.matmul(&v)?;
        self.out.forward(&mixed.transpose(1, 2)?.reshape((batch, tokens, width))?)
    }
}

/// The mask under which no token sees a later one.
pub(crate) fn causal(tokens: usize) -> Result<Tensor> {
    let later = |row: usize, column: usize| if column > row { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..tokens * tokens).map(|i| later(i / tokens, i % tokens)).collect();
    Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)
}
