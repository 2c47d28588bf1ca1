//! The exchange of a model's norms.

use std::collections::HashMap;

use crate::composed::{close, flat, tensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use dyt_candle::{Conversion, Gamma, Left, NormKind, convert_norms, convert_var_map};

type Weights = HashMap<String, Tensor>;

/// Tensors by their names and shapes.
fn tensors(named: &[(&str, &[usize])]) -> Result<Weights> {
    named.iter().map(|(name, shape)| Ok(((*name).to_owned(), tensor(7, shape, DType::F32)?))).collect()
}

fn names(weights: &Weights) -> Vec<&str> {
    let mut names: Vec<_> = weights.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn converted(report: &Conversion) -> Vec<(&str, usize)> {
    report.converted.iter().map(|layer| (layer.name.as_str(), layer.cols)).collect()
}

fn left(report: &Conversion) -> Vec<(&str, Left)> {
    report.left.iter().map(|(name, why)| (name.as_str(), why.clone())).collect()
}

#[test]
fn norms_of_a_model_are_exchanged_and_the_rest_is_kept() -> Result<()> {
    let weights = tensors(&[
        ("blocks.0.norm1.weight", &[4]),
        ("blocks.0.norm1.bias", &[4]),
        ("blocks.0.fc.weight", &[4, 4]),
        ("blocks.0.fc.bias", &[4]),
        ("ln_f.weight", &[4]),
    ])?;
    let derf = |name: &str, cols| {
        assert_eq!(cols, 4);
        Some(NormKind::derf().with_alpha(if name == "ln_f" { 0.25 } else { 0.75 }))
    };
    let (exchanged, report) = convert_norms(&weights, Gamma::Weight, derf)?;
    assert_eq!(converted(&report), [("blocks.0.norm1", 4), ("ln_f", 4)]);
    assert_eq!(report.left, []);
    assert!(report.converted.iter().all(|layer| layer.dropped.is_empty()));
    let expected = "blocks.0.fc.bias blocks.0.fc.weight blocks.0.norm1.alpha blocks.0.norm1.bias \
                    blocks.0.norm1.shift blocks.0.norm1.weight ln_f.alpha ln_f.bias ln_f.shift ln_f.weight";
    assert_eq!(names(&exchanged).join(" "), expected);
    assert_eq!(flat(&exchanged["ln_f.alpha"])?, [0.25]);
    assert_eq!(flat(&exchanged["ln_f.bias"])?, [0.0; 4]);
    for (name, tensor) in &weights {
        assert_eq!(flat(&exchanged[name])?, flat(tensor)?, "{name}");
    }
    // And back, to a kind that has neither bias nor scalars: the report names what is gone.
    let (back, report) = convert_norms(&exchanged, Gamma::Weight, |_, _| Some(NormKind::rms_norm()))?;
    let mut expected = names(&weights);
    expected.retain(|name| *name != "blocks.0.norm1.bias");
    assert_eq!(names(&back), expected);
    for layer in &report.converted {
        assert_eq!(layer.dropped, ["bias", "alpha", "shift"], "{}", layer.name);
        assert_eq!(layer.kind, NormKind::rms_norm());
    }
    Ok(())
}

#[test]
fn norms_are_found_by_shapes_and_what_is_left_has_a_reason() -> Result<()> {
    let mut weights = tensors(&[
        // ConvNeXt: norms by number, LayerScale, and the GRN of its second version.
        ("stem.0.weight", &[6, 3, 4, 4]),
        ("stem.0.bias", &[6]),
        ("stem.1.weight", &[6]),
        ("stem.1.bias", &[6]),
        ("stages.1.downsample.0.weight", &[6]),
        ("stages.1.downsample.0.bias", &[6]),
        ("stages.0.blocks.0.gamma", &[6]),
        ("stages.0.blocks.0.mlp.grn.weight", &[24]),
        ("stages.0.blocks.0.mlp.grn.bias", &[24]),
        // An older BERT.
        ("encoder.LayerNorm.gamma", &[6]),
        ("encoder.LayerNorm.beta", &[6]),
        // No norms.
        ("bn.weight", &[6]),
        ("bn.bias", &[6]),
        ("bn.running_mean", &[6]),
        ("bn.running_var", &[6]),
        ("act.weight", &[1]),
        ("odd.weight", &[6]),
        ("odd.bias", &[5]),
        ("gated.weight", &[6]),
        ("gated.scale", &[6]),
        ("attention.in_proj_weight", &[18, 6]),
        ("attention.in_proj_bias", &[18]),
        ("two.weight", &[6]),
        ("two.gamma", &[6]),
        ("jax.norm.scale", &[6]),
        ("embedding.weight", &[10, 6]),
        ("weight", &[6]),
    ])?;
    weights.insert("packed.weight".into(), Tensor::zeros(6, DType::U8, &Device::Cpu)?);
    let kind = |name: &str, _| (!name.ends_with(".grn")).then(NormKind::dyt);
    let (exchanged, report) = convert_norms(&weights, Gamma::Weight, kind)?;
    assert_eq!(
        converted(&report),
        [("", 6), ("encoder.LayerNorm", 6), ("stages.1.downsample.0", 6), ("stem.1", 6)]
    );
    assert_eq!(
        left(&report),
        [
            ("act", Left::OneElement),
            ("bn", Left::RunningStatistics),
            ("gated", Left::OtherTensors(vec!["scale".into()])),
            ("jax.norm.scale", Left::UnknownName),
            ("odd", Left::Shape("bias".into())),
            ("packed", Left::Quantised(DType::U8)),
            ("stages.0.blocks.0", Left::LayerScale),
            ("stages.0.blocks.0.mlp.grn", Left::Declined),
            ("two", Left::TwoWeights),
        ]
    );
    for (_, why) in &report.left {
        assert!(!why.to_string().is_empty());
    }
    // The older names are written anew; what was left is as it was.
    assert_eq!(flat(&exchanged["encoder.LayerNorm.weight"])?, flat(&weights["encoder.LayerNorm.gamma"])?);
    assert_eq!(flat(&exchanged["encoder.LayerNorm.bias"])?, flat(&weights["encoder.LayerNorm.beta"])?);
    assert!(!exchanged.contains_key("encoder.LayerNorm.gamma") && exchanged.contains_key("alpha"));
    for (name, tensor) in &weights {
        if report.left.iter().any(|(layer, _)| name.starts_with(layer.as_str())) {
            assert_eq!(flat(&exchanged[name])?, flat(tensor)?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn one_plus_weight_becomes_the_gamma_that_it_was() -> Result<()> {
    // w of Gemma in bf16, which would round 1 + w to 1.
    let w = Tensor::new(&[-0.5_f32, 0.25, 1.0 / 1024.0, 3.0], &Device::Cpu)?.to_dtype(DType::BF16)?;
    let weights = HashMap::from([("norm.weight".to_owned(), w.clone())]);
    let gemma = NormKind::rms_norm().with_gamma(Gamma::OnePlusWeight);
    for kind in [NormKind::dyt(), NormKind::derf(), NormKind::layer_norm(), NormKind::rms_norm()] {
        let (exchanged, _) = convert_norms(&weights, Gamma::OnePlusWeight, |_, _| Some(kind))?;
        let weight = &exchanged["norm.weight"];
        assert_eq!(flat(weight)?, [0.5, 1.25, 1.0 + 1.0 / 1024.0, 4.0], "{kind:?}");
        // And back, to weights from which gamma is read as Gemma does.
        let (back, _) = convert_norms(&exchanged, Gamma::Weight, |_, _| Some(gemma))?;
        assert_eq!(flat(&back["norm.weight"])?, flat(&w)?, "{kind:?}");
    }
    // The same reading before and after: not a bit changes.
    let (same, _) = convert_norms(&weights, Gamma::OnePlusWeight, |_, _| Some(gemma))?;
    assert_eq!((same["norm.weight"].dtype(), flat(&same["norm.weight"])?), (DType::BF16, flat(&w)?));
    // The layer of the new kind gives what the old one gave.
    let x = tensor(1, &[3, 4], DType::F32)?;
    let load = |kind: NormKind, weights| {
        kind.load(4, VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu).pp("norm"))?.forward(&x)
    };
    let (plain, _) = convert_norms(&weights, Gamma::OnePlusWeight, |_, _| Some(NormKind::rms_norm()))?;
    assert_eq!(flat(&load(NormKind::rms_norm(), plain)?)?, flat(&load(gemma, weights)?)?);
    Ok(())
}

#[test]
fn converted_variables_load_as_the_new_kind_and_are_its_own() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    NormKind::layer_norm().load(4, vb.pp("norm"))?;
    let (exchanged, report) = convert_var_map(&vars, Gamma::Weight, |_, _| Some(NormKind::dyt()))?;
    assert_eq!(converted(&report), [("norm", 4)]);
    let vb = VarBuilder::from_varmap(&exchanged, DType::F32, &Device::Cpu);
    let x = tensor(1, &[3, 4], DType::F32)?;
    let norm = NormKind::dyt().load(4, vb.pp("norm"))?;
    close("y", &norm.forward(&x)?, &(&x * 0.5)?.tanh()?, 2e-6)?;
    assert_eq!(exchanged.all_vars().len(), 3);
    // Training one of them leaves the other alone.
    for var in exchanged.all_vars() {
        var.set(&var.zeros_like()?)?;
    }
    assert_eq!(vars.all_vars().iter().filter(|var| flat(var).is_ok_and(|v| v == [1.0; 4])).count(), 1);
    Ok(())
}
