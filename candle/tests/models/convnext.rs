//! ConvNeXt's norms: of channels-last data, and of channels-first data through a permuted view, each in a `Func`.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Func, VarBuilder, linear};

use super::norms::layer_norm;

/// Of channels-last data.
fn layer_norm_cl(dim: usize, vb: VarBuilder<'_>) -> Result<Func<'static>> {
    let norm = layer_norm(dim, 1e-6, vb)?;
    Ok(Func::new(move |xs| xs.apply(&norm)))
}

/// Of channels-first data.
fn layer_norm_cf(dim: usize, vb: VarBuilder<'_>) -> Result<Func<'static>> {
    let norm = layer_norm(dim, 1e-6, vb)?;
    Ok(Func::new(move |xs| xs.permute((0, 2, 3, 1))?.apply(&norm)?.permute((0, 3, 1, 2))))
}

#[derive(Clone)]
pub(crate) struct Model {
    stem: Func<'static>,
    downsample: Func<'static>,
    fc: candle_nn::Linear,
    head: Func<'static>,
}

impl Model {
    pub(crate) fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            stem: layer_norm_cf(size, vb.pp("stem").pp(1))?,
            downsample: layer_norm_cf(size, vb.pp("stages.1.downsample").pp(0))?,
            fc: linear(size, size, vb.pp("stages.1.fc"))?,
            head: layer_norm_cl(size, vb.pp("head.norm"))?,
        })
    }
}

impl Module for Model {
    /// Of `images × tokens × size`, read as `images × size × height × 2`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (images, tokens, size) = x.dims3()?;
        let xs = x.reshape((images, tokens / 2, 2, size))?.permute((0, 3, 1, 2))?.contiguous()?;
        let xs = xs.apply(&self.stem)?.apply(&self.downsample)?;
        let xs = xs.permute((0, 2, 3, 1))?.contiguous()?.apply(&self.fc)?;
        xs.permute((0, 3, 1, 2))?.flatten_from(2)?.mean(2)?.apply(&self.head)
    }
}
