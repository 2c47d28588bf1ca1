//! A Pre-LN block of a decoder, without attention, which has no norm.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear_no_bias};

#[derive(Clone)]
pub(crate) struct Mlp {
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(crate) fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let up = linear_no_bias(size, 2 * size, vb.pp("up_proj"))?;
        let down = linear_no_bias(2 * size, size, vb.pp("down_proj"))?;
        Ok(Self { up, down })
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.up.forward(x)?.silu()?)
    }
}
