//! The layers as models use them: built, saved, loaded, exchanged and trained.

use std::collections::HashMap;

use crate::composed::{close, flat, tensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use dyt_candle::{
    Derf, DynamicTanh, LayerNorm, NormKind, RmsNorm, Std, convert_norms, convert_var_map, is_norm_name,
};

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

/// What a small model's weights are called.
fn model() -> Result<HashMap<String, Tensor>> {
    let names: [(&str, &[usize]); 6] = [
        ("blocks.0.norm1.weight", &[4]),
        ("blocks.0.norm1.bias", &[4]),
        ("blocks.0.fc.weight", &[4, 4]),
        ("blocks.0.fc.bias", &[4]),
        ("blocks.0.gate.weight", &[4]),
        ("ln_f.weight", &[4]),
    ];
    names.into_iter().map(|(name, shape)| Ok((name.to_owned(), tensor(7, shape, DType::F32)?))).collect()
}

fn names(weights: &HashMap<String, Tensor>) -> Vec<&str> {
    let mut names: Vec<_> = weights.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn norms_of_a_model_are_exchanged_and_the_rest_is_kept() -> Result<()> {
    let weights = model()?;
    let converted = convert_norms(&weights, |name, cols| {
        assert_eq!(cols, 4);
        is_norm_name(name).then(|| NormKind::derf().with_alpha(if name == "ln_f" { 0.25 } else { 0.75 }))
    })?;
    assert_eq!(
        names(&converted),
        [
            "blocks.0.fc.bias",
            "blocks.0.fc.weight",
            "blocks.0.gate.weight",
            "blocks.0.norm1.alpha",
            "blocks.0.norm1.bias",
            "blocks.0.norm1.shift",
            "blocks.0.norm1.weight",
            "ln_f.alpha",
            "ln_f.bias",
            "ln_f.shift",
            "ln_f.weight"
        ]
    );
    assert_eq!(flat(&converted["ln_f.alpha"])?, [0.25]);
    assert_eq!(flat(&converted["ln_f.bias"])?, [0.0; 4]);
    for (name, tensor) in &weights {
        assert_eq!(flat(&converted[name])?, flat(tensor)?, "{name}");
    }
    // And back, to a kind that has neither bias nor scalars.
    let back = convert_norms(&converted, |name, _| is_norm_name(name).then(NormKind::rms_norm))?;
    let mut expected = names(&weights);
    expected.retain(|name| *name != "blocks.0.norm1.bias");
    assert_eq!(names(&back), expected);
    Ok(())
}

#[test]
fn converted_variables_load_as_the_new_kind_and_are_its_own() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    NormKind::layer_norm().load(4, vb.pp("norm"))?;
    let converted = convert_var_map(&vars, |name, _| is_norm_name(name).then(NormKind::dyt))?;
    let vb = VarBuilder::from_varmap(&converted, DType::F32, &Device::Cpu);
    let x = tensor(1, &[3, 4], DType::F32)?;
    let norm = NormKind::dyt().load(4, vb.pp("norm"))?;
    close("y", &norm.forward(&x)?, &(&x * 0.5)?.tanh()?, 2e-6)?;
    assert_eq!(converted.all_vars().len(), 3);
    // Training one of them leaves the other alone.
    for var in converted.all_vars() {
        var.set(&var.zeros_like()?)?;
    }
    assert_eq!(vars.all_vars().iter().filter(|var| flat(var).is_ok_and(|v| v == [1.0; 4])).count(), 1);
    Ok(())
}

#[test]
fn names_of_norms_are_known() {
    for name in [
        "norm",
        "blocks.3.norm1",
        "model.layers.0.input_layernorm",
        "h.0.ln_1",
        "ln_f",
        "ln1",
        "ln",
        "fc_norm",
    ] {
        assert!(is_norm_name(name), "{name}");
    }
    for name in ["fc1", "norm.proj", "attn.qkv", "lnear", ""] {
        assert!(!is_norm_name(name), "{name}");
    }
}
