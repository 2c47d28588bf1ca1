//! A block of a diffusion transformer (Peebles and Xie 2023, arXiv 2212.09748) with DyT in place of its norms: shift, scale and
//! gate follow from the condition of each sample, AdaLN. `modulate` does it in the pass of the layer.
//!
//! `cargo run --release -p dyt-candle --example dit_block` prints how far it is from the same composed of candle's own ops.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::ops::softmax;
use candle_nn::{Linear, VarBuilder, VarMap, linear};
use dyt_candle::DynamicTanh;

const WIDTH: usize = 64;
const HEADS: usize = 4;
const ALPHA: f64 = 0.5;

struct Block {
    alpha: [Var; 2],
    condition: Linear,
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

/// Who computes y·(1 + scale) + shift.
#[derive(Clone, Copy, PartialEq)]
enum By {
    OnePass,
    Steps,
}

impl Block {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let alpha = || Var::new(&[ALPHA as f32], &Device::Cpu);
        Ok(Self {
            alpha: [alpha()?, alpha()?],
            condition: linear(WIDTH, 6 * WIDTH, vb.pp("adaLN_modulation"))?,
            qkv: linear(WIDTH, 3 * WIDTH, vb.pp("qkv"))?,
            out: linear(WIDTH, WIDTH, vb.pp("proj"))?,
            up: linear(WIDTH, 4 * WIDTH, vb.pp("fc1"))?,
            down: linear(4 * WIDTH, WIDTH, vb.pp("fc2"))?,
        })
    }

    /// Of x, `batch × tokens × width`, under `c`, `batch × width`.
    fn forward(&self, x: &Tensor, c: &Tensor, by: By) -> Result<Tensor> {
        let parts = self.condition.forward(&c.silu()?)?.chunk(6, 1)?;
        let [shift1, scale1, gate1, shift2, scale2, gate2] = parts.as_slice() else {
            unreachable!("six parts")
        };
        let y = self.modulated(0, x, shift1, scale1, by)?;
        let x = (x + self.attention(&y)?.broadcast_mul(&gate1.unsqueeze(1)?)?)?;
        let y = self.modulated(1, &x, shift2, scale2, by)?;
        let y = self.down.forward(&self.up.forward(&y)?.gelu()?)?;
        x + y.broadcast_mul(&gate2.unsqueeze(1)?)?
    }

    fn modulated(&self, i: usize, x: &Tensor, shift: &Tensor, scale: &Tensor, by: By) -> Result<Tensor> {
        let alpha = self.alpha[i].as_tensor();
        if by == By::OnePass {
            return DynamicTanh::new(alpha.clone()).modulate(x, scale, shift);
        }
        let y = x.broadcast_mul(alpha)?.tanh()?;
        y.broadcast_mul(&(scale.unsqueeze(1)? + 1.0)?)?.broadcast_add(&shift.unsqueeze(1)?)
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let size = WIDTH / HEADS;
        let qkv = self.qkv.forward(x)?.reshape((batch, tokens, 3, HEADS, size))?.permute((2, 0, 3, 1, 4))?;
        let part = |i: usize| qkv.get(i)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let mixed = softmax(&(q.matmul(&k.t()?)? / (size as f64).sqrt())?, D::Minus1)?.matmul(&v)?;
        self.out.forward(&mixed.transpose(1, 2)?.reshape((batch, tokens, WIDTH))?)
    }
}

/// The largest difference of the outputs, and of all gradients beside the largest of all: alpha's alone is a sum that may come
/// out near zero.
fn differences() -> Result<[f32; 2]> {
    let vars = VarMap::new();
    let block = Block::new(&VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let x = Var::randn(0.0_f32, 1.5, (3, 19, WIDTH), &Device::Cpu)?;
    let c = Var::randn(0.0_f32, 1.0, (3, WIDTH), &Device::Cpu)?;
    let weights = Tensor::randn(0.0_f32, 1.0, (3, 19, WIDTH), &Device::Cpu)?;
    let run = |by| -> Result<(Tensor, GradStore)> {
        let y = block.forward(x.as_tensor(), c.as_tensor(), by)?;
        let gradients = (&y * &weights)?.sum_all()?.backward()?;
        Ok((y, gradients))
    };
    let ((y, got), (expected_y, expected)) = (run(By::OnePass)?, run(By::Steps)?);
    let largest = |t: &Tensor| t.abs()?.max_all()?.to_scalar::<f32>();
    let (mut apart, mut size) = (0.0_f32, 0.0_f32);
    for var in vars.all_vars().iter().chain([&x, &c]).chain(&block.alpha) {
        let missing = || candle_core::Error::Msg("a gradient is missing".to_owned());
        let (got, expected) = (got.get(var).ok_or_else(missing)?, expected.get(var).ok_or_else(missing)?);
        apart = apart.max(largest(&(got - expected)?)?);
        size = size.max(largest(expected)?);
    }
    Ok([largest(&(y - expected_y)?)?, apart / size])
}

fn main() -> Result<()> {
    let [outputs, gradients] = differences()?;
    println!(
        "in one pass beside step by step: outputs differ by {outputs:e}, gradients by {gradients:e} of the largest"
    );
    Ok(())
}

#[test]
fn one_pass_is_what_the_steps_are() -> Result<()> {
    for _ in 0..3 {
        let [outputs, gradients] = differences()?;
        assert!(outputs < 2e-5 && gradients < 2e-5, "{outputs:e} {gradients:e}");
    }
    Ok(())
}
