//! The layers as models use them: built, saved, loaded, exchanged and trained.

use std::collections::HashMap;

use crate::composed::{close, flat, tensor};
use candle_core::{DType, Device, Module, Result, Tensor, Var, bail};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use dyt_candle::{Channels, Derf, DynamicTanh, Gamma, LayerNorm, Norm, NormKind, RmsNorm, Std};

const KINDS: [NormKind; 4] =
    [NormKind::layer_norm(), NormKind::rms_norm(), NormKind::dyt(), NormKind::derf()];

/// A name, the value of every element, and how many there are.
type Parameter = (&'static str, f64, usize);

/// The names and values that a kind makes in a new map.
fn made(kind: NormKind, cols: usize, dtype: DType) -> Result<HashMap<String, Tensor>> {
    let vars = VarMap::new();
    kind.load(cols, VarBuilder::from_varmap(&vars, dtype, &Device::Cpu).pp("n"))?;
    let held = vars.data().lock().map_err(|e| candle_core::Error::msg(e.to_string()))?;
    Ok(held.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect())
}

#[test]
fn parameters_have_the_reference_names_and_begin_where_they_should() -> Result<()> {
    let expected: [(NormKind, &[Parameter]); 4] = [
        (KINDS[0], &[("n.bias", 0.0, 3), ("n.weight", 1.0, 3)]),
        (KINDS[1], &[("n.weight", 1.0, 3)]),
        (KINDS[2].with_alpha(0.25), &[("n.alpha", 0.25, 1), ("n.bias", 0.0, 3), ("n.weight", 1.0, 3)]),
        (KINDS[3], &[("n.alpha", 0.5, 1), ("n.bias", 0.0, 3), ("n.shift", 0.0, 1), ("n.weight", 1.0, 3)]),
    ];
    for (kind, expected) in expected {
        for dtype in [DType::F32, DType::BF16] {
            let parameters = made(kind, 3, dtype)?;
            assert_eq!(parameters.len(), expected.len(), "{kind:?}");
            for (name, value, len) in expected {
                assert_eq!(flat(&parameters[*name])?, vec![*value; *len], "{kind:?} {name}");
            }
        }
    }
    Ok(())
}

#[test]
fn layers_give_what_candle_gives() -> Result<()> {
    let (x, weight, bias) =
        (tensor(1, &[4, 10], DType::F32)?, tensor(2, &[10], DType::F32)?, tensor(3, &[10], DType::F32)?);
    let norm = LayerNorm::new(weight.clone(), bias.clone(), 1e-5);
    let expected = candle_nn::LayerNorm::new(weight.clone(), bias.clone(), 1e-5).forward(&x)?;
    close("LayerNorm", &norm.forward(&x)?, &expected, 2e-6)?;
    let unbiased = norm.with_std(Std::Unbiased).forward(&x)?;
    assert_ne!(flat(&unbiased)?, flat(&expected)?);
    let norm = RmsNorm::new(weight.clone(), 1e-5);
    let expected = candle_nn::RmsNorm::new(weight.clone(), 1e-5).forward(&x)?;
    close("RmsNorm", &norm.forward(&x)?, &expected, 2e-6)?;

    let alpha = Tensor::new(&[0.5_f32], &Device::Cpu)?;
    let affine = |t: &Tensor| t.broadcast_mul(&weight)?.broadcast_add(&bias);
    let dyt = DynamicTanh::new(alpha.clone()).with_weight(weight.clone()).with_bias(bias.clone());
    close("DynamicTanh", &dyt.forward(&x)?, &affine(&(&x * 0.5)?.tanh()?)?, 2e-6)?;
    let shift = Tensor::new(&[0.25_f32], &Device::Cpu)?;
    let derf = Derf::new(alpha)?.with_shift(shift).with_weight(weight.clone()).with_bias(bias.clone());
    close("Derf", &derf.forward(&x)?, &affine(&((&x * 0.5)? + 0.25)?.erf()?)?, 2e-6)
}

#[test]
fn every_kind_learns_its_parameters() -> Result<()> {
    let (x, target) = (tensor(1, &[64, 8], DType::F32)?, tensor(5, &[64, 8], DType::F32)?);
    for kind in KINDS {
        let vars = VarMap::new();
        let norm = kind.load(8, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
        let error = || (norm.forward(&x)? - &target)?.sqr()?.mean_all();
        let before = error()?.to_scalar::<f32>()?;
        let start = |name: &str| -> Result<Option<Vec<f64>>> {
            let held = vars.data().lock().map_err(|e| candle_core::Error::msg(e.to_string()))?;
            held.get(name).map(|var| flat(var)).transpose()
        };
        let names = ["alpha", "shift", "weight", "bias"];
        let begun = names.map(start);
        let mut optimizer =
            AdamW::new(vars.all_vars(), ParamsAdamW { lr: 0.02, weight_decay: 0.0, ..Default::default() })?;
        for _ in 0..50 {
            optimizer.backward_step(&error()?)?;
        }
        let after = error()?.to_scalar::<f32>()?;
        assert!(after < 0.9 * before, "{kind:?}: {before} to {after}");
        for (name, begun) in names.into_iter().zip(begun) {
            if let Some(begun) = begun? {
                assert_ne!(start(name)?, Some(begun), "{kind:?}: {name} has not moved");
            }
        }
    }
    Ok(())
}

/// A builder of these tensors.
fn builder<const N: usize>(tensors: [(&str, Tensor); N]) -> VarBuilder<'static> {
    let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

#[test]
fn weights_of_older_checkpoints_load_as_in_candle_nn() -> Result<()> {
    let (x, gamma, beta) =
        (tensor(1, &[4, 10], DType::F32)?, tensor(2, &[10], DType::F32)?, tensor(3, &[10], DType::F32)?);
    let vb = builder([("LayerNorm.gamma", gamma.clone()), ("LayerNorm.beta", beta.clone())]).pp("LayerNorm");
    let expected = candle_nn::layer_norm(10, 1e-12, vb.clone())?.forward(&x)?;
    let norm = dyt_candle::layer_norm(10, 1e-12, vb.clone())?;
    close("LayerNorm", &norm.forward(&x)?, &expected, 2e-6)?;
    let norm = NormKind::layer_norm().with_eps(1e-12).load(10, vb.clone())?;
    close("NormKind::layer_norm", &norm.forward(&x)?, &expected, 2e-6)?;
    let expected = candle_nn::rms_norm(10, 1e-5, vb.clone())?.forward(&x)?;
    close("RmsNorm", &dyt_candle::rms_norm(10, 1e-5, vb)?.forward(&x)?, &expected, 2e-6)?;
    // Where both names are there, the newer one counts, as in candle_nn.
    let both = builder([
        ("weight", gamma.clone()),
        ("gamma", beta.clone()),
        ("bias", beta.clone()),
        ("beta", gamma),
    ]);
    let expected = candle_nn::layer_norm(10, 1e-5, both.clone())?.forward(&x)?;
    close("both", &dyt_candle::layer_norm(10, 1e-5, both)?.forward(&x)?, &expected, 2e-6)
}

#[test]
fn scalars_of_no_dimension_load() -> Result<()> {
    let x = tensor(1, &[4, 6], DType::F32)?;
    let (ones, zeros) =
        (Tensor::ones(6, DType::F32, &Device::Cpu)?, Tensor::zeros(6, DType::F32, &Device::Cpu)?);
    let scalar = |value: f32, rank: usize| Tensor::full(value, vec![1; rank], &Device::Cpu);
    for rank in [0, 1] {
        let vb = builder([
            ("alpha", scalar(0.75, rank)?),
            ("shift", scalar(0.25, rank)?),
            ("weight", ones.clone()),
            ("bias", zeros.clone()),
        ]);
        let y = NormKind::dyt().load(6, vb.clone())?.forward(&x)?;
        close("DyT", &y, &(&x * 0.75)?.tanh()?, 2e-6)?;
        let y = NormKind::derf().load(6, vb)?.forward(&x)?;
        close("Derf", &y, &((&x * 0.75)? + 0.25)?.erf()?, 2e-6)?;
    }
    // A variable of no dimension is loaded itself, and so it learns.
    let vars = VarMap::new();
    let alpha = Var::from_tensor(&scalar(0.75, 0)?)?;
    let Ok(mut held) = vars.data().lock() else { bail!("nobody else holds the variables") };
    held.insert("alpha".into(), alpha.clone());
    drop(held);
    let norm = NormKind::dyt().load(6, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let grads = norm.forward(&x)?.sqr()?.sum_all()?.backward()?;
    assert!(grads.get(&alpha).is_some_and(|grad| grad.rank() == 0));
    // Two elements are no alpha, and the error is that of the usual shape.
    let vb = builder([("alpha", scalar(0.5, 1)?.repeat(2)?), ("weight", ones), ("bias", zeros)]);
    let Err(refused) = NormKind::dyt().load(6, vb).map_err(|e| e.to_string()) else { bail!("two elements") };
    assert!(refused.contains("[1]") && refused.contains("[2]"), "{refused}");
    let Err(refused) = NormKind::dyt().load(6, builder([])).map_err(|e| e.to_string()) else { bail!("none") };
    assert!(refused.contains("alpha"), "{refused}");
    Ok(())
}

#[test]
fn eps_is_that_of_the_model() -> Result<()> {
    // Rows of which the variance is about 1e-8: with eps 1e-5 y would be thirty times as small.
    let x = (tensor(1, &[4, 10], DType::F32)? * 1e-4)?;
    let (ones, zeros) =
        (Tensor::ones(10, DType::F32, &Device::Cpu)?, Tensor::zeros(10, DType::F32, &Device::Cpu)?);
    let vb = || builder([("weight", ones.clone()), ("bias", zeros.clone())]);
    let expected = candle_nn::layer_norm(10, 1e-12, vb())?.forward(&x)?;
    let other = candle_nn::layer_norm(10, 1e-5, vb())?.forward(&x)?;
    assert!(flat(&expected)?[0].abs() > 10.0 * flat(&other)?[0].abs());
    for (kind, eps, norm) in [
        (NormKind::layer_norm(), Some(1e-5), LayerNorm::new(ones.clone(), zeros.clone(), 1e-5).forward(&x)?),
        (NormKind::rms_norm(), Some(1e-6), RmsNorm::new(ones.clone(), 1e-6).forward(&x)?),
        (NormKind::dyt(), None, (&x * 0.5)?.tanh()?),
        (NormKind::derf(), None, (&x * 0.5)?.erf()?),
    ] {
        assert_eq!(kind.eps(), eps);
        let made = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
        close(&format!("{kind:?}"), &kind.load(10, made)?.forward(&x)?, &norm, 2e-6)?;
        let set = kind.with_eps(1e-12);
        assert_eq!(set.eps(), eps.map(|_| 1e-12));
        assert_eq!(set.with_eps(eps.unwrap_or_default()), kind, "with_eps changes eps alone");
    }
    let of_kind = NormKind::layer_norm().with_eps(1e-12).load(10, vb())?.forward(&x)?;
    let of_layer = LayerNorm::new(ones.clone(), zeros, 1e-5).with_eps(1e-12);
    assert_eq!((of_layer.eps(), RmsNorm::new(ones, 1e-5).with_eps(1e-12).eps()), (1e-12, 1e-12));
    close("by NormKind", &of_kind, &expected, 1e-5)?;
    close("by LayerNorm", &of_layer.forward(&x)?, &expected, 1e-5)
}

#[test]
fn a_norm_of_any_kind_takes_channels_first() -> Result<()> {
    let x = tensor(1, &[2, 6, 5], DType::F32)?;
    for kind in KINDS {
        let vars = VarMap::new();
        let norm: Norm = kind.load(6, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
        let expected = norm.forward(&x.transpose(1, 2)?.contiguous()?)?.transpose(1, 2)?;
        let first = norm.with_channels(Channels::First).forward(&x)?;
        close(&format!("{kind:?}"), &first, &expected, 1e-6)?;
    }
    Ok(())
}

#[test]
fn one_plus_weight_is_gamma_where_the_kind_says_so() -> Result<()> {
    let (x, weight) = (tensor(1, &[4, 10], DType::F32)?, (tensor(2, &[10], DType::F32)? * 0.01)?);
    let vb = builder([("weight", weight.clone()), ("bias", weight.clone())]);
    for kind in [NormKind::layer_norm(), NormKind::rms_norm()] {
        let gemma = kind.with_gamma(Gamma::OnePlusWeight);
        assert_eq!(gemma.gamma(), Gamma::OnePlusWeight);
        let more = builder([("weight", (&weight + 1.0)?), ("bias", weight.clone())]);
        let expected = kind.load(10, more)?.forward(&x)?;
        assert_eq!(flat(&gemma.load(10, vb.clone())?.forward(&x)?)?, flat(&expected)?);
        // Made anew, the weight begins at 0, so that gamma begins at 1.
        let (made, usual) = (made(gemma, 10, DType::BF16)?, made(kind, 10, DType::BF16)?);
        assert_eq!((flat(&made["n.weight"])?, flat(&usual["n.weight"])?), (vec![0.0; 10], vec![1.0; 10]));
    }
    // 1 + weight is not rounded to bf16, which has steps of 1/128 there.
    let small = Tensor::full(1e-3_f32, 10, &Device::Cpu)?.to_dtype(DType::BF16)?;
    let x = tensor(1, &[4, 10], DType::BF16)?;
    let exact = RmsNorm::new((small.to_dtype(DType::F32)? + 1.0)?, 1e-6).forward(&x)?;
    let gemma = RmsNorm::new(small, 1e-6).with_gamma(Gamma::OnePlusWeight).forward(&x)?;
    assert_eq!((gemma.dtype(), flat(&gemma)?), (DType::BF16, flat(&exact)?));
    Ok(())
}
