//! Layers that add a residual, beside an addition and the layer: values, sums and gradients.

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use dyt_candle::{Channels, NormKind, ops};

use crate::composed::{KINDS, close, flat, layer, tensor};

fn same(what: &str, one: &Tensor, other: &Tensor) -> Result<()> {
    assert_eq!((one.dtype(), one.shape()), (other.dtype(), other.shape()), "{what}");
    assert_eq!(flat(one)?, flat(other)?, "{what}");
    Ok(())
}

#[test]
fn y_and_sum_are_those_of_two_steps() -> Result<()> {
    for kind in KINDS {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for (shape, channels) in [(&[4, 33][..], Channels::Last), (&[2, 5, 7], Channels::First)] {
                let cols = if channels == Channels::Last { 33 } else { 5 };
                let norm = layer(kind, cols, dtype)?.with_channels(channels);
                let (x, residual) = (tensor(1, shape, dtype)?, tensor(2, shape, dtype)?);
                let (y, sum) = norm.forward_with_residual(&x, &residual)?;
                let expected = (&x + &residual)?;
                same("sum", &sum, &expected)?;
                same("y", &y, &norm.forward(&expected)?)?;
                // A view that is not contiguous.
                let (y, sum) = norm.forward_with_residual(&x.flip(&[0])?, &residual)?;
                let expected = (x.flip(&[0])? + &residual)?;
                same("sum of a view", &sum, &expected)?;
                same("y of a view", &y, &norm.forward(&expected)?)?;
            }
        }
    }
    Ok(())
}

/// The loss has both outputs, so that the residual has a gradient by way of each.
#[test]
fn gradients_are_those_of_two_steps() -> Result<()> {
    for kind in KINDS {
        let vars = VarMap::new();
        let norm = kind.load(9, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
        let [x, residual] =
            [1, 2].map(|seed| Var::from_tensor(&tensor(seed, &[4, 9], DType::F32).expect("it is made")));
        let (x, residual) = (x?, residual?);
        let [weight_y, weight_sum] = [tensor(3, &[4, 9], DType::F32)?, tensor(4, &[4, 9], DType::F32)?];
        let loss = |y: &Tensor, sum: &Tensor| (y * &weight_y)?.sum_all()? + (sum * &weight_sum)?.sum_all()?;
        let (y, sum) = norm.forward_with_residual(&x, &residual)?;
        let got = loss(&y, &sum)?.backward()?;
        let sum = (x.as_tensor() + residual.as_tensor())?;
        let expected = loss(&norm.forward(&sum)?, &sum)?.backward()?;
        for var in [&x, &residual].into_iter().chain(&vars.all_vars()) {
            let of = |store: &candle_core::backprop::GradStore| {
                store.get(var).cloned().expect("it has a gradient")
            };
            close("gradient", &of(&got), &of(&expected), 1e-6)?;
        }
        let zero = got.get(&residual).map(flat).transpose()?.is_some_and(|g| g.iter().all(|v| *v == 0.0));
        assert!(!zero, "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_residual_that_does_not_fit_is_refused() -> Result<()> {
    let norm = layer(NormKind::rms_norm(), 9, DType::F32)?;
    let x = tensor(1, &[4, 9], DType::F32)?;
    for other in [tensor(2, &[9, 4], DType::F32)?, tensor(2, &[4, 9], DType::BF16)?] {
        let refused = norm.forward_with_residual(&x, &other).map(|_| ());
        let text = refused.expect_err("the residual does not fit").to_string();
        assert!(text.contains("rms_norm: the residual is"), "{text}");
    }
    Ok(())
}

#[test]
fn functions_are_what_the_layers_call() -> Result<()> {
    let (x, residual) = (tensor(1, &[3, 8], DType::F32)?, tensor(2, &[3, 8], DType::F32)?);
    let (alpha, shift) = (Tensor::new(&[0.5_f32], &Device::Cpu)?, Tensor::new(&[0.25_f32], &Device::Cpu)?);
    let none = ops::Affine::default();
    let sum = (&x + &residual)?;
    let (y, added) = ops::add_derf(&x, &residual, &alpha, &shift, none, Channels::Last)?;
    same("sum", &added, &sum)?;
    same("derf", &y, &ops::derf(&sum, &alpha, &shift, none, Channels::Last)?)?;
    let (y, _) = ops::add_dynamic_tanh(&x, &residual, &alpha, none, Channels::Last)?;
    same("dyt", &y, &ops::dynamic_tanh(&sum, &alpha, none, Channels::Last)?)
}
