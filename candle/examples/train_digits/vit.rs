//! A small vision Transformer whose norms are chosen by its configuration.

use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::{Linear, VarBuilder, VarMap, linear};
use dyt_candle::{Norm, NormKind};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::data::{CLASSES, SIDE};

/// What a model is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) patch: usize,
    pub(crate) width: usize,
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    pub(crate) norm: NormKind,
}

impl Config {
    /// The model of this example.
    pub(crate) const fn small(norm: NormKind) -> Self {
        Self { patch: 4, width: 32, depth: 2, heads: 4, norm }
    }
}

/// The model.
pub(crate) struct Vit {
    patch: usize,
    embed: Linear,
    position: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

/// Attention and a feed-forward network, each behind its norm.
struct Block {
    heads: usize,
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
}

impl Vit {
    /// A model whose variables are made in `vars`.
    pub(crate) fn new(config: Config, vars: &VarMap) -> Result<Self> {
        let vb = VarBuilder::from_varmap(vars, DType::F32, &Device::Cpu);
        let Config { patch, width, depth, heads, norm } = config;
        let tokens = (SIDE / patch) * (SIDE / patch);
        let blocks = (0..depth).map(|i| Block::new(width, heads, norm, &vb.pp(format!("blocks.{i}"))));
        Ok(Self {
            patch,
            embed: linear(patch * patch, width, vb.pp("embed"))?,
            position: vb.get_with_hints((tokens, width), "position", candle_nn::Init::Const(0.0))?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: norm.load(width, vb.pp("norm"))?,
            head: linear(width, CLASSES, vb.pp("head"))?,
        })
    }

    /// The scores of each class, for images `count × 8 × 8`.
    pub(crate) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let (count, patch, side) = (images.dim(0)?, self.patch, SIDE / self.patch);
        let patches = images
            .reshape((count, side, patch, side, patch))?
            .permute((0, 1, 3, 2, 4))?
            .reshape((count, side * side, patch * patch))?;
        let mut x = self.embed.forward(&patches)?.broadcast_add(&self.position)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&self.norm.forward(&x)?.mean(1)?)
    }
}

impl Block {
    fn new(width: usize, heads: usize, norm: NormKind, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            heads,
            norm1: norm.load(width, vb.pp("norm1"))?,
            qkv: linear(width, 3 * width, vb.pp("qkv"))?,
            proj: linear(width, width, vb.pp("proj"))?,
            norm2: norm.load(width, vb.pp("norm2"))?,
            fc1: linear(width, 2 * width, vb.pp("fc1"))?,
            fc2: linear(2 * width, width, vb.pp("fc2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&self.norm1.forward(x)?)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&x)?)?.relu()?;
        &x + self.fc2.forward(&hidden)?
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (count, tokens, width) = x.dims3()?;
        let size = width / self.heads;
        let qkv = self.qkv.forward(x)?.reshape((count, tokens, 3, self.heads, size))?;
        let qkv = qkv.permute((2, 0, 3, 1, 4))?.contiguous()?;
        let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
        let scores = (q.matmul(&k.t()?)? / (size as f64).sqrt())?;
        let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        self.proj.forward(&mixed.transpose(1, 2)?.reshape((count, tokens, width))?)
    }
}

/// Gives every variable that is not of a norm its initial value, by the seed and the order of names alone: two models
/// that differ in their norms begin alike.
pub(crate) fn initialize(vars: &VarMap, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    for (name, var) in named(vars)? {
        let bound = match var.dims() {
            _ if name.contains("norm") => continue,
            _ if name == "position" => 0.5,
            [_, inputs] => 1.0 / (*inputs as f32).sqrt(),
            _ => {
                var.set(&var.zeros_like()?)?;
                continue;
            }
        };
        let values: Vec<f32> = (0..var.elem_count()).map(|_| rng.random_range(-bound..bound)).collect();
        var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
    }
    Ok(())
}

/// The variables in the order of their names.
pub(crate) fn named(vars: &VarMap) -> Result<Vec<(String, Var)>> {
    let held = vars.data().lock().map_err(|e| candle_core::Error::msg(e.to_string()))?;
    let mut named: Vec<_> = held.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(named)
}
