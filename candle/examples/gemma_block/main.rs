//! A block as Gemma 3 has it, by fused layers and composed of candle's own ops: RMSNorm with 1 + weight, residuals that join
//! in the norm behind them, and norms of the queries and keys inside the packed QKV, which is not copied.
//!
//! `cargo run --release -p dyt-candle --example gemma_block` prints how far the two are apart.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Module, Result, Tensor};
use candle_nn::ops::softmax;
use candle_nn::{Linear, VarBuilder, VarMap, linear_no_bias};
use dyt_candle::transformers::GemmaRmsNorm;

const EPS: f64 = 1e-6;

/// The sizes of a block.
#[derive(Clone, Copy)]
struct Sizes {
    width: usize,
    heads: usize,
    head: usize,
}

struct Block {
    sizes: Sizes,
    input: GemmaRmsNorm,
    qkv: Linear,
    q_norm: GemmaRmsNorm,
    k_norm: GemmaRmsNorm,
    out: Linear,
    before_mlp: GemmaRmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(sizes: Sizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let Sizes { width, heads, head } = sizes;
        let norm = |size, name| GemmaRmsNorm::new(size, EPS, vb.pp(name));
        let linear = |from, to, name| linear_no_bias(from, to, vb.pp(name));
        Ok(Self {
            sizes,
            input: norm(width, "input_layernorm")?,
            qkv: linear(width, 3 * heads * head, "qkv_proj")?,
            q_norm: norm(head, "q_norm")?,
            k_norm: norm(head, "k_norm")?,
            out: linear(heads * head, width, "o_proj")?,
            before_mlp: norm(width, "pre_feedforward_layernorm")?,
            gate: linear(width, 4 * width, "gate_proj")?,
            up: linear(width, 4 * width, "up_proj")?,
            down: linear(4 * width, width, "down_proj")?,
        })
    }

    /// What the block adds to the residual stream, and the stream. `branch` is what the block before adds.
    fn fused(&self, branch: &Tensor, stream: &Tensor) -> Result<(Tensor, Tensor)> {
        let (x, stream) = self.input.forward_with_residual(branch, stream)?;
        let [q, k, v] = self.packed(&x)?;
        let attended = self.attend(&self.q_norm.forward(&q)?, &self.k_norm.forward(&k)?, &v)?;
        let (x, stream) = self.before_mlp.forward_with_residual(&attended, &stream)?;
        Ok((self.mlp(&x)?, stream))
    }

    /// The same, step by step.
    fn composed(&self, branch: &Tensor, stream: &Tensor) -> Result<(Tensor, Tensor)> {
        let stream = (branch + stream)?;
        let [q, k, v] = self.packed(&composed_norm(&stream, &self.input)?)?;
        let attended =
            self.attend(&composed_norm(&q, &self.q_norm)?, &composed_norm(&k, &self.k_norm)?, &v)?;
        let stream = (attended + stream)?;
        Ok((self.mlp(&composed_norm(&stream, &self.before_mlp)?)?, stream))
    }

    /// Queries, keys and values of `batch × tokens × heads × head`, as views of one tensor.
    fn packed(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let (batch, tokens, _) = x.dims3()?;
        let Sizes { heads, head, .. } = self.sizes;
        let qkv = self.qkv.forward(x)?.reshape((batch, tokens, 3, heads, head))?;
        let part = |i| qkv.narrow(2, i, 1)?.squeeze(2);
        Ok([part(0)?, part(1)?, part(2)?])
    }

    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (batch, tokens, heads, head) = q.dims4()?;
        let of_heads = |x: &Tensor| x.transpose(1, 2)?.contiguous();
        let (q, k, v) = (of_heads(q)?, of_heads(k)?, of_heads(v)?);
        let scores = (q.matmul(&k.t()?)? / (head as f64).sqrt())?;
        let mixed = softmax(&scores, D::Minus1)?.matmul(&v)?;
        self.out.forward(&mixed.transpose(1, 2)?.reshape((batch, tokens, heads * head))?)
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&(self.gate.forward(x)?.gelu()? * self.up.forward(x)?)?)
    }
}

/// x·rstd·(1 + weight) by candle's own ops, in f32.
fn composed_norm(x: &Tensor, norm: &GemmaRmsNorm) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean_square = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = wide.broadcast_div(&(mean_square + EPS)?.sqrt()?)?;
    let gamma = (norm.weight().to_dtype(DType::F32)? + 1.0)?;
    normed.broadcast_mul(&gamma)?.to_dtype(x.dtype())
}

/// A block whose weights no graph knows.
fn random_block(sizes: Sizes) -> Result<Block> {
    let vars = VarMap::new();
    Block::new(sizes, &VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let mut tensors = HashMap::new();
    for (name, var) in vars.data().lock().expect("nobody else has it").iter() {
        // Weights of norms begin at 0, where 1 + weight is 1.
        let is_norm = var.rank() == 1;
        let tensor = if is_norm { var.randn_like(0.1, 0.3)? } else { var.as_detached_tensor() };
        tensors.insert(name.clone(), tensor);
    }
    Block::new(sizes, &VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

/// The largest difference between the two, of the branch and of the stream.
fn differences(mean: f32) -> Result<[f32; 2]> {
    let sizes = Sizes { width: 96, heads: 4, head: 32 };
    let block = random_block(sizes)?;
    let input = || Tensor::randn(mean, 1.5, (2, 17, sizes.width), &Device::Cpu);
    let (branch, stream) = (input()?, input()?);
    let (fused, composed) = (block.fused(&branch, &stream)?, block.composed(&branch, &stream)?);
    let apart = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.max_all()?.to_scalar();
    Ok([apart(&fused.0, &composed.0)?, apart(&fused.1, &composed.1)?])
}

fn main() -> Result<()> {
    let [branch, stream] = differences(0.0)?;
    println!("fused beside composed: the branch differs by {branch:e} at most, the stream by {stream:e}");
    Ok(())
}

#[test]
fn the_fused_block_is_the_composed_one() -> Result<()> {
    for mean in [0.0, 0.5, -2.0] {
        let [branch, stream] = differences(mean)?;
        assert!(branch < 2e-5 && stream < 2e-5, "{branch:e} {stream:e}");
    }
    Ok(())
}
