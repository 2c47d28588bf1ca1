//! Parameters that change with the sample, and views of wider rows: the values and gradients of the steps that they stand for.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use dyt_candle::ops::{self, Affine};
use dyt_candle::{Channels, Norm};

use crate::composed::{KINDS, close, flat, tensor};

/// y·(1 + scale) + shift in steps of candle's own.
fn in_steps(norm: &Norm, x: &Tensor, scale: &Tensor, shift: &Tensor, axis: usize) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    (shape[0], shape[axis]) = (x.dims()[0], x.dims()[axis]);
    let (scale, shift) = (scale.reshape(&shape[..])?, shift.reshape(&shape[..])?);
    norm.forward(x)?.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(&shift)
}

#[test]
fn modulate_is_its_steps_with_gradients() -> Result<()> {
    for kind in KINDS {
        for (shape, channels) in [(&[3, 5, 9][..], Channels::Last), (&[3, 9, 4, 2], Channels::First)] {
            let axis = if channels == Channels::Last { 2 } else { 1 };
            let vars = VarMap::new();
            let norm = kind.load(9, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
            let norm = norm.with_channels(channels);
            for (seed, var) in vars.all_vars().iter().enumerate() {
                var.set(&tensor(10 + seed as u64, var.dims(), DType::F32)?)?;
            }
            let var = |seed, shape: &[usize]| Var::from_tensor(&tensor(seed, shape, DType::F32)?);
            let (x, scale, shift) = (var(1, shape)?, var(2, &[3, 9])?, var(3, &[3, 9])?);
            let weights = tensor(4, shape, DType::F32)?;
            let gradients = |y: &Tensor| (y * &weights)?.sum_all()?.backward();
            let (y, in_steps) =
                (norm.modulate(&x, &scale, &shift)?, in_steps(&norm, &x, &scale, &shift, axis)?);
            let (got, expected) = (gradients(&y)?, gradients(&in_steps)?);
            close("y", &y, &in_steps, 2e-6)?;
            for var in [&x, &scale, &shift].into_iter().chain(&vars.all_vars()) {
                let of = |store: &GradStore| store.get(var).cloned().expect("a gradient");
                close("gradient", &of(&got), &of(&expected), 1e-5)?;
            }
        }
    }
    Ok(())
}

#[test]
fn parameters_of_samples_are_rows_of_one_call() -> Result<()> {
    let (x, alpha) = (tensor(1, &[4, 6, 10], DType::BF16)?, Tensor::new(&[0.7_f32], &Device::Cpu)?);
    let (weight, bias) = (tensor(2, &[4, 10], DType::BF16)?, tensor(3, &[10], DType::BF16)?);
    let y = ops::dynamic_tanh(&x, &alpha, Affine::weight(&weight).with_bias(&bias), Channels::Last)?;
    for sample in 0..4 {
        let (x, weight) = (x.get(sample)?, weight.get(sample)?);
        let one = ops::dynamic_tanh(&x, &alpha, Affine::weight(&weight).with_bias(&bias), Channels::Last)?;
        assert_eq!(flat(&y.get(sample)?)?, flat(&one)?, "sample {sample}");
    }
    for wrong in [&[6, 10][..], &[4, 9], &[2, 4, 10]] {
        let weight = tensor(2, wrong, DType::BF16)?;
        let refused = ops::dynamic_tanh(&x, &alpha, Affine::weight(&weight), Channels::Last).map(|_| ());
        let text = refused.expect_err("the weight does not fit").to_string();
        assert!(text.contains("a parameter has the shape"), "{text}");
    }
    Ok(())
}

#[test]
fn views_of_a_packed_qkv_have_the_bits_of_copies() -> Result<()> {
    for dtype in [DType::F32, DType::BF16] {
        let qkv = tensor(1, &[2, 7, 3, 4, 16], dtype)?;
        let weight = tensor(2, &[16], dtype)?;
        for part in 0..3 {
            let view = qkv.narrow(2, part, 1)?.squeeze(2)?;
            assert!(!view.is_contiguous());
            // Heads behind one another, in front of tokens, and a part of each.
            for view in [view.clone(), view.transpose(1, 2)?, view.narrow(1, 2, 3)?, view.narrow(2, 1, 2)?] {
                let norm = |x: &Tensor| ops::rms_norm(x, Affine::weight(&weight), 1e-6, Channels::Last);
                let (got, expected) = (norm(&view)?, norm(&view.contiguous()?)?);
                assert_eq!(got.dims(), view.dims());
                assert_eq!(flat(&got)?, flat(&expected)?, "{:?}", view.layout());
            }
        }
    }
    Ok(())
}
