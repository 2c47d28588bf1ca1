//! The ops with y in one byte.

use candle_core::{Device, Result, Tensor};
use dyt::{Op, Quant, Std};

use super::{Affine, Call, contiguous, direct};
use crate::Channels;
use crate::place::tensor;
use crate::rows;

/// The one type of a quantised y that candle has, too.
const QUANT: Quant = Quant::F8E4M3;

/// [`dynamic_tanh`](super::dynamic_tanh) with y as F8E4M3, and what y was divided by.
///
/// y is v / s, rounded to nearest even and saturated at 448, where v is the op's result in f32. s is `scale`, which has one
/// element, as f32. Without it each row has an s of its own, the largest |v| of the row / 448: it comes back in the shape
/// of x, with 1 for the channels. y is of no graph, for rounding has no gradient.
///
/// # Errors
/// As [`dynamic_tanh`](super::dynamic_tanh), and the scale has another number of elements.
pub fn quantised_dynamic_tanh(
    x: &Tensor,
    alpha: &Tensor,
    affine: Affine<'_>,
    channels: Channels,
    scale: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    Call { scalars: &[alpha], ..Call::new(Op::Dyt, affine) }.run_quantised(x, channels, scale)
}

/// [`derf`](super::derf) with y as F8E4M3, as [`quantised_dynamic_tanh`] has it.
///
/// # Errors
/// As [`quantised_dynamic_tanh`].
pub fn quantised_derf(
    x: &Tensor,
    alpha: &Tensor,
    shift: &Tensor,
    affine: Affine<'_>,
    channels: Channels,
    scale: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    Call { scalars: &[alpha, shift], ..Call::new(Op::Derf, affine) }.run_quantised(x, channels, scale)
}

/// [`layer_norm`](super::layer_norm) with y as F8E4M3, as [`quantised_dynamic_tanh`] has it.
///
/// # Errors
/// As [`quantised_dynamic_tanh`].
pub fn quantised_layer_norm(
    x: &Tensor,
    affine: Affine<'_>,
    eps: f64,
    std: Std,
    channels: Channels,
    scale: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    Call { std, eps: Some(eps), ..Call::new(Op::LayerNorm, affine) }.run_quantised(x, channels, scale)
}

/// [`rms_norm`](super::rms_norm) with y as F8E4M3, as [`quantised_dynamic_tanh`] has it.
///
/// # Errors
/// As [`quantised_dynamic_tanh`].
pub fn quantised_rms_norm(
    x: &Tensor,
    affine: Affine<'_>,
    eps: f64,
    channels: Channels,
    scale: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    Call { eps: Some(eps), ..Call::new(Op::RmsNorm, affine) }.run_quantised(x, channels, scale)
}

/// A scale with which y of DyT and Derf never saturates, whatever x: the largest |gamma| + |beta| of a channel / 448.
///
/// # Errors
/// What candle says of the parameters.
pub fn quant_scale(affine: Affine<'_>, device: &Device) -> Result<Tensor> {
    let wide = |t: &Tensor| t.to_dtype(candle_core::DType::F32);
    let gamma = match affine.weight {
        Some(weight) => (wide(weight)? + f64::from(affine.offset))?.abs()?,
        None => Tensor::ones(1, candle_core::DType::F32, device)?,
    };
    let sizes = match affine.bias {
        Some(bias) => gamma.broadcast_add(&wide(bias)?.abs()?)?,
        None => gamma,
    };
    Tensor::new(&[QUANT.scale(sizes.max_all()?.to_scalar()?)], device)
}

impl Call<'_> {
    fn run_quantised(
        &self,
        x: &Tensor,
        channels: Channels,
        scale: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let x = x.contiguous()?;
        let axis = channels.axis(x.rank())?;
        let groups = rows::groups(&x, axis, self.parameters())?;
        let given = scale.map(|scale| self.scalar(scale)).transpose()?;
        let mut ready = self.ready(&x, contiguous(&x, axis), (axis, groups), false)?;
        ready.problem = ready.problem.with_quant(Some(QUANT));
        let written = direct(&ready, &x, None, given.as_ref())?;
        let mut rows = x.dims().to_vec();
        rows[axis] = 1;
        let found = written.scales.map(|scales| tensor(scales, &rows.into()));
        let Some(scale) = given.or(found) else {
            candle_core::bail!("{}: no scale was found", self.op);
        };
        Ok((tensor(written.y, x.shape()), scale))
    }
}
