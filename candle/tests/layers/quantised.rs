//! Layers whose y is quantised, beside the layer in f32.

use candle_core::{D, DType, Device, Module, Result, Tensor};
use dyt_candle::ops::{self, Affine};
use dyt_candle::{Channels, Norm, NormKind};

use crate::composed::{KINDS, flat, layer, tensor};

/// The largest value of F8E4M3.
const LARGEST: f64 = 448.0;

/// The layer whose parameters are those of `dtype`, as f32.
fn layer_of_rounded(kind: NormKind, cols: usize, dtype: DType) -> Result<Norm> {
    let vb = |name: &str, t: Tensor| Ok((name.to_owned(), t.to_dtype(dtype)?.to_dtype(DType::F32)?));
    let one = |value: f32| Tensor::new(&[value], &Device::Cpu);
    let made = [
        vb("alpha", one(0.6)?),
        vb("shift", one(-0.2)?),
        vb("weight", tensor(5, &[cols], dtype)?),
        vb("bias", tensor(6, &[cols], dtype)?),
    ];
    let made = made.into_iter().collect::<Result<_>>()?;
    kind.load(cols, candle_nn::VarBuilder::from_tensors(made, DType::F32, &Device::Cpu))
}

/// Each y·s lies within half a step of v, or saturates.
fn near(y: &Tensor, scales: &Tensor, v: &[f64]) -> Result<()> {
    assert_eq!(y.dtype(), DType::F8E4M3);
    let got = y.to_dtype(DType::F32)?.to_dtype(DType::F64)?.broadcast_mul(&scales.to_dtype(DType::F64)?)?;
    let steps = scales.broadcast_as(y.shape())?.contiguous()?;
    for ((got, v), s) in flat(&got)?.iter().zip(v).zip(flat(&steps)?) {
        let v = v.clamp(-LARGEST * s, LARGEST * s);
        // Three bits of a fraction, and steps of 2⁻⁹ near 0; a little for the rounding of v and of s.
        let bound = (v.abs() / 16.0).max(s / 1024.0) * 1.0001;
        assert!((got - v).abs() <= bound, "{got} beside {v}, with a scale of {s}");
    }
    Ok(())
}

#[test]
fn each_row_finds_its_scale() -> Result<()> {
    for kind in KINDS {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for (shape, channels) in [(&[4, 33][..], Channels::Last), (&[2, 5, 7], Channels::First)] {
                let (axis, cols) = if channels == Channels::Last { (1, 33) } else { (1, 5) };
                let norm = layer(kind, cols, dtype)?.with_channels(channels);
                let x = tensor(1, shape, dtype)?;
                let (y, scales) = norm.forward_quantised(&x, None)?;
                let wide = layer_of_rounded(kind, cols, dtype)?.with_channels(channels);
                let v = flat(&wide.forward(&x.to_dtype(DType::F32)?)?)?;
                near(&y, &scales, &v)?;
                let v = Tensor::from_vec(v, shape, &Device::Cpu)?;
                let expected = flat(&(v.abs()?.max_keepdim(axis)? / LARGEST)?)?;
                assert_eq!((scales.rank(), scales.dims()[axis]), (shape.len(), 1));
                for (got, expected) in flat(&scales)?.iter().zip(expected) {
                    assert!((got - expected).abs() <= 1e-5 * expected, "{got} {expected}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_scale_that_is_given_serves_every_row() -> Result<()> {
    for kind in KINDS {
        let (norm, x) = (layer(kind, 33, DType::F32)?, tensor(1, &[6, 33], DType::F32)?);
        // Large enough, and so small that some values saturate.
        for scale in [0.1_f32, 0.002] {
            let scale = Tensor::new(&[scale], &Device::Cpu)?;
            let (y, same) = norm.forward_quantised(&x, Some(&scale))?;
            assert_eq!(flat(&same)?, flat(&scale)?);
            near(&y, &scale.broadcast_as(x.shape())?, &flat(&norm.forward(&x)?)?)?;
        }
        let two = Tensor::new(&[0.1_f32, 0.2], &Device::Cpu)?;
        assert!(norm.forward_quantised(&x, Some(&two)).is_err());
    }
    Ok(())
}

/// |tanh| and |erf| are at most 1: the parameters alone give the scale.
#[test]
fn a_bounded_scale_saturates_nothing() -> Result<()> {
    let (alpha, shift) = (Tensor::new(&[3.0_f32], &Device::Cpu)?, Tensor::new(&[0.1_f32], &Device::Cpu)?);
    let (weight, bias) = (tensor(5, &[33], DType::F32)?, tensor(6, &[33], DType::F32)?);
    let x = (tensor(1, &[6, 33], DType::F32)? * 100.0)?;
    let affine = Affine::weight(&weight).with_bias(&bias).with_offset(1.0);
    let scale = ops::quant_scale(affine, &Device::Cpu)?;
    let bound = ((&weight + 1.0)?.abs()? + bias.abs()?)?.max(D::Minus1)?.to_scalar::<f32>()?;
    assert_eq!(flat(&scale)?, [f64::from(bound / LARGEST as f32)]);
    let dyt = ops::quantised_dynamic_tanh(&x, &alpha, affine, Channels::Last, Some(&scale))?.0;
    let derf = ops::quantised_derf(&x, &alpha, &shift, affine, Channels::Last, Some(&scale))?.0;
    for (y, v) in [
        (dyt, ops::dynamic_tanh(&x, &alpha, affine, Channels::Last)?),
        (derf, ops::derf(&x, &alpha, &shift, affine, Channels::Last)?),
    ] {
        near(&y, &scale.broadcast_as(x.shape())?, &flat(&v)?)?;
        assert!(flat(&y.to_dtype(DType::F32)?)?.iter().any(|y| y.abs() > 0.9 * LARGEST));
    }
    Ok(())
}
