//! The Pre-LN block of the Annotated Transformer: x + sublayer(norm(x)), with attention and then a feed-forward network
//! as the sublayer, and its own LayerNorm, which divides by the unbiased standard deviation and adds eps outside the
//! root.
//!
//! ```text
//! cargo run --release -p dyt-candle --example annotated_transformer
//! ```

mod block;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use dyt_candle::{Gamma, NormKind, Std};

use crate::block::{Block, causal};

/// The LayerNorm of the Annotated Transformer.
const NORM: NormKind = NormKind::LayerNorm { eps: 1e-6, std: Std::Unbiased, gamma: Gamma::Weight };

fn main() -> Result<()> {
    let (width, heads, tokens) = (64, 4, 10);
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let block = Block::new(width, heads, NORM, &vb)?;
    let x = Tensor::randn(0.0_f32, 1.0, (2, tokens, width), &Device::Cpu)?;
    let y = block.forward(&x, &causal(tokens)?)?;
    let gradients = y.sqr()?.mean_all()?.backward()?;
    println!("x {:?} to y {:?}", x.dims(), y.dims());
    let mut named: Vec<_> = match vars.data().lock() {
        Ok(held) => held.iter().map(|(name, var)| (name.clone(), var.clone())).collect(),
        Err(_) => Vec::new(),
    };
    named.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, var) in named {
        if let Some(gradient) = gradients.get(&var) {
            let size = gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?;
            println!("{name:<14} {:<10} gradient {size:.6}", format!("{:?}", var.dims()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Module, Var};
    use candle_nn::{Linear, ops::softmax};

    use super::*;

    const WIDTH: usize = 24;
    const TOKENS: usize = 7;

    /// A block whose variables all differ from where they begin.
    fn model(vars: &VarMap) -> Result<Block> {
        let block = Block::new(WIDTH, 3, NORM, &VarBuilder::from_varmap(vars, DType::F32, &Device::Cpu))?;
        for var in vars.all_vars() {
            var.set(&(var.as_tensor() + var.randn_like(0.0, 0.1)?)?)?;
        }
        Ok(block)
    }

    fn get(vars: &VarMap, name: &str) -> Result<Tensor> {
        let held = vars.data().lock().map_err(|e| candle_core::Error::msg(e.to_string()))?;
        held.get(name)
            .map(|var| var.as_tensor().clone())
            .ok_or_else(|| candle_core::Error::msg(format!("no variable {name}")))
    }

    /// a·(x − mean)/(std + eps) + b with the unbiased std, of candle's own ops.
    fn norm(x: &Tensor, vars: &VarMap, name: &str) -> Result<Tensor> {
        let d = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let std = (d.sqr()?.sum_keepdim(D::Minus1)? / (x.dim(D::Minus1)? as f64 - 1.0))?.sqrt()?;
        d.broadcast_div(&(std + 1e-6)?)?
            .broadcast_mul(&get(vars, &format!("{name}.weight"))?)?
            .broadcast_add(&get(vars, &format!("{name}.bias"))?)
    }

    fn linear(x: &Tensor, vars: &VarMap, name: &str) -> Result<Tensor> {
        let (weight, bias) = (get(vars, &format!("{name}.weight"))?, get(vars, &format!("{name}.bias"))?);
        Linear::new(weight, Some(bias)).forward(x)
    }

    /// The block written out: one head after the other, by slices.
    fn composed(x: &Tensor, vars: &VarMap) -> Result<Tensor> {
        let n = norm(x, vars, "norm1")?;
        let (q, k, v) = (linear(&n, vars, "q")?, linear(&n, vars, "k")?, linear(&n, vars, "v")?);
        let size = WIDTH / 3;
        let mut heads = Vec::new();
        for head in 0..3 {
            let part = |t: &Tensor| t.narrow(D::Minus1, head * size, size)?.contiguous();
            let scores = (part(&q)?.matmul(&part(&k)?.t()?.contiguous()?)? / (size as f64).sqrt())?;
            let scores = scores.broadcast_add(&causal(TOKENS)?)?;
            heads.push(softmax(&scores, D::Minus1)?.matmul(&part(&v)?)?);
        }
        let x = (x + linear(&Tensor::cat(&heads, D::Minus1)?, vars, "out")?)?;
        let hidden = linear(&norm(&x, vars, "norm2")?, vars, "up")?.relu()?;
        &x + linear(&hidden, vars, "down")?
    }

    fn largest(t: &Tensor) -> Result<f32> {
        t.abs()?.flatten_all()?.max(0)?.to_scalar()
    }

    #[test]
    fn the_block_is_the_composed_formula_forward_and_backward() -> Result<()> {
        let vars = VarMap::new();
        let block = model(&vars)?;
        let x = Var::randn(0.5_f32, 2.0, (2, TOKENS, WIDTH), &Device::Cpu)?;
        let (y, expected) = (block.forward(&x, &causal(TOKENS)?)?, composed(&x, &vars)?);
        assert!(largest(&(&y - &expected)?)? <= 1e-5 * largest(&expected)?);
        let (grads, expected) = (y.sqr()?.sum_all()?.backward()?, expected.sqr()?.sum_all()?.backward()?);
        for var in vars.all_vars().iter().chain([&x]) {
            let (Some(grad), Some(expected)) = (grads.get(var), expected.get(var)) else {
                candle_core::bail!("no gradient of a variable of {:?}", var.dims())
            };
            let bound = 1e-4 * largest(expected)?.max(1.0);
            assert!(largest(&(grad - expected)?)? <= bound, "{:?}", var.dims());
        }
        Ok(())
    }

    #[test]
    fn no_token_sees_a_later_one() -> Result<()> {
        let vars = VarMap::new();
        let block = model(&vars)?;
        let x = Tensor::randn(0.0_f32, 1.0, (1, TOKENS, WIDTH), &Device::Cpu)?;
        let later = Tensor::randn(0.0_f32, 1.0, (1, 1, WIDTH), &Device::Cpu)?;
        let other = Tensor::cat(&[&x.narrow(1, 0, TOKENS - 1)?, &later], 1)?;
        let mask = causal(TOKENS)?;
        let difference = (block.forward(&x, &mask)? - block.forward(&other, &mask)?)?;
        assert!(largest(&difference.narrow(1, 0, TOKENS - 1)?)? < 1e-5);
        assert!(largest(&difference.narrow(1, TOKENS - 1, 1)?)? > 1e-2);
        Ok(())
    }
}
