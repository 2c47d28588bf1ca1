//! Every constructor, getter and method of candle_nn's layers.

use candle_core::{Module, Result, Tensor};
use candle_nn::{LayerNormConfig, VarBuilder};

use super::norms::{LayerNorm, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm};

/// The layers that each of them makes, by name.
pub(crate) fn layers(size: usize, vb: &VarBuilder<'_>) -> Result<Vec<(&'static str, LayerNorm)>> {
    let (gamma, beta) = (vb.get(size, "weight")?, vb.get(size, "bias")?);
    let rms = LayerNormConfig { eps: 1e-3, remove_mean: false, affine: true };
    Ok(vec![
        ("new", LayerNorm::new(gamma.clone(), beta, 1e-3)),
        ("new_no_bias", LayerNorm::new_no_bias(gamma.clone(), 1e-3)),
        ("LayerNorm::rms_norm", LayerNorm::rms_norm(gamma.clone(), 1e-3)),
        ("RmsNorm::new", RmsNorm::new(gamma, 1e-3).into_inner()),
        ("layer_norm", layer_norm(size, 1e-3, vb.clone())?),
        ("layer_norm by a configuration", layer_norm(size, rms, vb.clone())?),
        ("layer_norm_no_bias", layer_norm_no_bias(size, 1e-3, vb.clone())?),
        ("rms_norm", rms_norm(size, 1e-3, vb.clone())?.into_inner()),
    ])
}

/// Weight, bias, eps, and whether the mean is removed.
type Told = (Vec<f32>, Option<Vec<f32>>, f64, bool);

/// What a layer tells of itself.
pub(crate) fn told(layer: &LayerNorm) -> Result<Told> {
    let weight: &Tensor = layer.weight();
    let bias = layer.bias().map(Tensor::to_vec1).transpose()?;
    Ok((weight.to_vec1()?, bias, layer.eps(), layer.remove_mean()))
}

/// The forwards and getters of an RmsNorm.
pub(crate) fn rms(size: usize, vb: &VarBuilder<'_>, x: &Tensor) -> Result<(f64, Vec<f32>, [Tensor; 2])> {
    let norm = rms_norm(size, 1e-3, vb.clone())?;
    Ok((norm.eps(), norm.weight().to_vec1()?, [norm.forward(x)?, norm.forward_diff(x)?]))
}
