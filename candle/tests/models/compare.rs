//! The models beside each other: y, bf16 against f32, and gradients.

use std::collections::HashMap;

use candle_core::{DType, Device, Module, Result, Tensor, Var, bail};
use candle_nn::{VarBuilder, VarMap};

use crate::{ours, theirs};

const SIZE: usize = 64;

/// A model with this crate's norms and one with candle's, of the same builder.
type Load = fn(&VarBuilder<'_>) -> Result<[Box<dyn Module>; 2]>;

/// A function that loads the model of one file with either kind of norms.
macro_rules! load {
    ($file:ident) => {
        |vb| {
            Ok([
                Box::new(ours::$file::Model::load(SIZE, vb)?),
                Box::new(theirs::$file::Model::load(SIZE, vb)?),
            ])
        }
    };
}

/// Name, loader, and whether candle's norms in it are fused ops that have no backward.
const MODELS: [(&str, Load, bool); 4] = [
    ("BERT", load!(bert), true),
    ("Llama", load!(llama), true),
    ("Gemma", load!(gemma), false),
    ("ConvNeXt", load!(convnext), true),
];

/// Normal values around `mean`, the same in every run.
fn normal(seed: u64, shape: &[usize], mean: f64, scale: f64) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let count = shape.iter().product();
    let values: Vec<f64> =
        (0..count).map(|_| mean + scale * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::BF16)
}

/// The weights of a model, by name; each is a bf16 number.
fn weights(load: Load, gemma: bool) -> Result<HashMap<String, Tensor>> {
    let vars = VarMap::new();
    load(&VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let Ok(held) = vars.data().lock() else { bail!("a thread that held the variables has panicked") };
    let mut names: Vec<_> = held.iter().collect();
    names.sort_by_key(|(name, _)| *name);
    let mut seed = 10;
    let made = names.into_iter().map(|(name, var)| {
        seed += 1;
        let tensor = match var.dims() {
            dims @ [_] if name.ends_with("weight") => normal(seed, dims, f64::from(u8::from(!gemma)), 0.2)?,
            dims @ [_] => normal(seed, dims, 0.0, 0.2)?,
            dims => normal(seed, dims, 0.0, 1.0 / (dims[dims.len() - 1] as f64).sqrt())?,
        };
        Ok((name.clone(), tensor))
    });
    made.collect()
}

fn input() -> Result<Tensor> {
    normal(1, &[8, 32, SIZE], 0.3, 1.0)
}

/// What [Self, candle's] models give in one dtype, as f64.
fn outputs(load: Load, weights: &HashMap<String, Tensor>, dtype: DType) -> Result<[Tensor; 2]> {
    let models = load(&VarBuilder::from_tensors(weights.clone(), dtype, &Device::Cpu))?;
    let x = input()?.to_dtype(dtype)?;
    let y = |model: &dyn Module| {
        let y = model.forward(&x)?;
        assert_eq!(y.dtype(), dtype);
        y.to_dtype(DType::F64)
    };
    Ok([y(models[0].as_ref())?, y(models[1].as_ref())?])
}

fn largest(a: &Tensor, b: &Tensor) -> Result<f64> {
    (a - b)?.abs()?.max_all()?.to_scalar()
}

/// The root of the mean square of the differences.
fn rms(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok((a - b)?.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt())
}

#[test]
fn y_is_that_of_candle() -> Result<()> {
    for (name, load, _) in MODELS {
        let weights = weights(load, name == "Gemma")?;
        let [ours, theirs] = outputs(load, &weights, DType::F32)?;
        let scale = theirs.abs()?.max_all()?.to_scalar::<f64>()?;
        let difference = largest(&ours, &theirs)?;
        println!("{name}: f32 differs by at most {difference:.1e} of values up to {scale:.1}");
        assert!(difference <= 1e-6 * scale, "{name}: {difference} of {scale}");
        let [ours, theirs] = outputs(load, &weights, DType::BF16)?;
        let exact = &outputs(load, &weights, DType::F32)?[1];
        let (ours, theirs) =
            ([rms(&ours, exact)?, largest(&ours, exact)?], [rms(&theirs, exact)?, largest(&theirs, exact)?]);
        println!("{name}: bf16 from f32, rms and largest: ours {ours:.5?}, candle's {theirs:.5?}");
        assert!(ours[0] <= 1.001 * theirs[0], "{name}: bf16 is further from f32 than candle's");
    }
    Ok(())
}

/// How many of the variables have a gradient, of how many.
fn gradients(model: &dyn Module, vars: &VarMap, x: &Var) -> Result<(usize, usize)> {
    let y = model.forward(x)?;
    let weights = normal(2, y.dims(), 0.0, 1.0)?.to_dtype(DType::F32)?;
    let grads = (y * weights)?.sum_all()?.backward()?;
    let all = vars.all_vars();
    let mut have = 0;
    for var in all.iter().chain([x]) {
        if let Some(grad) = grads.get(var) {
            assert_eq!(grad.dims(), var.dims());
            have += usize::from(grad.abs()?.sum_all()?.to_scalar::<f32>()? > 0.0);
        }
    }
    Ok((have, all.len() + 1))
}

#[test]
fn every_variable_has_a_gradient() -> Result<()> {
    for (name, load, fused) in MODELS {
        let vars = VarMap::new();
        let [ours, theirs] = load(&VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
        let x = Var::from_tensor(&input()?.to_dtype(DType::F32)?)?;
        let (have, all) = gradients(ours.as_ref(), &vars, &x)?;
        let (candle, _) = gradients(theirs.as_ref(), &vars, &x)?;
        println!("{name}: of {all} variables {have} have a gradient, with candle's norms {candle}");
        assert_eq!(have, all, "{name}");
        // The README says so of candle; should it mend it, this fails, and the README has to change.
        assert_eq!(candle < all, fused, "{name}");
    }
    Ok(())
}

#[test]
fn constructors_and_getters_are_those_of_candle_nn() -> Result<()> {
    let names = ["weight", "bias"];
    let weights =
        names.map(|name| Ok((name.to_owned(), normal(3, &[SIZE], 1.0, 0.3)?.to_dtype(DType::F32)?)));
    let weights = weights.into_iter().collect::<Result<_>>()?;
    let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let x = input()?.to_dtype(DType::F32)?;
    let (ours, theirs) = (ours::plain::layers(SIZE, &vb)?, theirs::plain::layers(SIZE, &vb)?);
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        assert_eq!(ours::plain::told(ours)?, theirs::plain::told(theirs)?, "{name}");
        let (y, expected) =
            (ours.forward(&x)?.to_dtype(DType::F64)?, theirs.forward(&x)?.to_dtype(DType::F64)?);
        assert!(largest(&y, &expected)? < 4e-6, "{name}");
    }
    assert_eq!(ours.len(), 8);
    let (eps, weight, ys) = ours::plain::rms(SIZE, &vb, &x)?;
    let (their_eps, their_weight, expected) = theirs::plain::rms(SIZE, &vb, &x)?;
    assert_eq!((eps, weight), (their_eps, their_weight));
    for (y, expected) in ys.iter().zip(&expected) {
        assert!(largest(&y.to_dtype(DType::F64)?, &expected.to_dtype(DType::F64)?)? < 4e-6);
    }
    Ok(())
}
