//! Forward and backward against candle's own ops in f64, and the gradients by finite differences.

use crate::composed::{Case, EPS, OPS, Op, close, flat, loss, tensor};
use candle_core::{DType, Result, Tensor, Var, bail};
use dyt_candle::Channels;
use dyt_candle::ops::{self, Affine};

const SHAPES: [&[usize]; 6] = [&[1, 2], &[3, 5], &[7, 33], &[2, 3, 17], &[2, 1, 3, 64], &[129, 7]];

/// y and every gradient, of the fused op and of the composed one in f64.
fn compare(case: &Case, bound: f64, parameter_bound: f64) -> Result<()> {
    let what = format!("{:?} {:?} {:?}", case.op, case.x.dims(), case.x.dtype());
    let exact = case.exact()?;
    let (y, expected) = (case.fused(&case.x)?, exact.composed(&exact.x)?);
    assert_eq!(y.dtype(), case.x.dtype(), "{what}");
    close(&format!("{what} y"), &y, &expected, bound)?;
    // The gradient of y is the same in both, rounded to y's type.
    let weights = tensor(4, y.dims(), y.dtype())?;
    let grads = (&y * &weights)?.to_dtype(DType::F32)?.sum_all()?.backward()?;
    let expected = (expected * weights.to_dtype(DType::F64)?)?.sum_all()?.backward()?;
    for ((name, var), (_, exact)) in case.variables().into_iter().zip(exact.variables()) {
        let what = format!("{what} d{name}");
        let (Some(grad), Some(expected)) = (grads.get(var), expected.get(exact)) else {
            bail!("{what} is missing");
        };
        assert_eq!(grad.dtype(), var.dtype(), "{what}");
        close(&what, grad, expected, if name == "x" { bound } else { parameter_bound })?;
    }
    Ok(())
}

#[test]
fn f32_matches_composed_ops() -> Result<()> {
    for op in OPS {
        for shape in SHAPES {
            compare(&Case::new(op, shape, DType::F32, DType::F32)?, 4e-6, 4e-6)?;
        }
    }
    Ok(())
}

#[test]
fn sixteen_bits_match_composed_ops_to_their_rounding() -> Result<()> {
    for op in OPS {
        for (dtype, bound) in [(DType::BF16, 1.0 / 128.0), (DType::F16, 1.0 / 1024.0)] {
            for shape in [&[3, 5][..], &[2, 3, 17]] {
                compare(&Case::new(op, shape, dtype, dtype)?, bound, bound)?;
                // f32 parameters beside 16-bit data keep f32 gradients.
                compare(&Case::new(op, shape, dtype, DType::F32)?, bound, 4e-6)?;
            }
        }
    }
    Ok(())
}

#[test]
fn absent_parameters_count_as_one_and_zero() -> Result<()> {
    for op in OPS {
        for (gamma, beta) in [(false, false), (true, false), (false, true)] {
            let mut case = Case::new(op, &[5, 9], DType::F32, DType::F32)?;
            case.gamma = case.gamma.filter(|_| gamma);
            case.beta = case.beta.filter(|_| beta);
            compare(&case, 4e-6, 4e-6)?;
        }
    }
    Ok(())
}

#[test]
fn the_offset_is_added_to_the_weight_and_leaves_its_gradient() -> Result<()> {
    for op in OPS {
        for (dtype, parameters, bound) in [
            (DType::F32, DType::F32, 4e-6),
            (DType::BF16, DType::BF16, 1.0 / 128.0),
            (DType::F16, DType::F32, 1.0 / 1024.0),
        ] {
            let case = Case { offset: 1.0, ..Case::new(op, &[7, 33], dtype, parameters)? };
            compare(&case, bound, if parameters == DType::F32 { 4e-6 } else { bound })?;
        }
    }
    Ok(())
}

#[test]
fn large_tensors_match_on_several_threads() -> Result<()> {
    for op in OPS {
        compare(&Case::new(op, &[600, 300], DType::F32, DType::F32)?, 4e-6, 1e-5)?;
    }
    Ok(())
}

/// The slope of the loss along one direction of one variable, by central differences of the fused forward.
#[test]
fn gradients_match_finite_differences() -> Result<()> {
    let step = 1.0 / 256.0;
    for op in OPS {
        let case = Case::new(op, &[4, 11], DType::F32, DType::F32)?;
        let grads = loss(&case.fused(&case.x)?)?.backward()?;
        for (name, var) in case.variables() {
            let direction = tensor(9, var.dims(), DType::F32)?;
            let Some(grad) = grads.get(var) else { bail!("{op:?} d{name} is missing") };
            let slope: f64 = flat(&(grad * &direction)?)?.iter().sum();
            let held = var.as_tensor().copy()?;
            let at = |t: f64| -> Result<f64> {
                var.set(&(&held + (&direction * t)?)?)?;
                let y = flat(&case.fused(&case.x)?)?;
                let weights = flat(&tensor(4, case.x.dims(), DType::F32)?)?;
                Ok(y.iter().zip(&weights).map(|(y, w)| y * w).sum())
            };
            let measured = (at(step)? - at(-step)?) / (2.0 * step);
            var.set(&held)?;
            let scale = slope.abs().max(1.0);
            assert!((measured - slope).abs() < 2e-3 * scale, "{op:?} d{name}: {slope}, measured {measured}");
        }
    }
    Ok(())
}

#[test]
fn views_are_read_where_they_lie_and_take_their_gradients() -> Result<()> {
    for op in OPS {
        // The shape of the variable, whether y lies as x does, and a view of it whose last dimension has 12 channels.
        type View = fn(&Tensor) -> Result<Tensor>;
        let views: [(&[usize], bool, View); 7] = [
            (&[7, 12], true, |x| x.contiguous()),
            (&[12, 7], true, |x| x.t()),
            (&[2, 12, 5], true, |x| x.transpose(1, 2)),
            (&[2, 12, 3, 5], true, |x| x.permute((0, 2, 3, 1))),
            (&[6, 20], false, |x| x.narrow(1, 3, 12)),
            (&[9, 12], true, |x| x.narrow(0, 2, 5)),
            (&[5, 3, 12], false, |x| x.transpose(0, 1)),
        ];
        for (shape, alike, view) in views {
            let mut case = Case::new(op, &[1, 12], DType::F32, DType::F32)?;
            case.x = Var::from_tensor(&tensor(1, shape, DType::F32)?)?;
            let what = format!("{op:?} {shape:?}");
            let exact = case.exact()?;
            let (y, expected) = (case.fused(&view(&case.x)?)?, exact.composed(&view(&exact.x)?)?);
            close(&what, &y, &expected, 4e-6)?;
            // A channels-last view of channels-first data is read where it lies, and so y has its strides.
            assert_eq!(
                view(&case.x)?.stride() == y.stride(),
                alike,
                "{what}: y has strides {:?}",
                y.stride()
            );
            let (grads, expected) = (loss(&y)?.backward()?, loss(&expected)?.backward()?);
            for ((name, var), (_, exact)) in case.variables().into_iter().zip(exact.variables()) {
                let (Some(grad), Some(expected)) = (grads.get(var), expected.get(exact)) else {
                    bail!("{what} d{name} is missing");
                };
                close(&format!("{what} d{name}"), grad, expected, 1e-5)?;
            }
        }
    }
    Ok(())
}

#[test]
fn parameters_of_any_layout_take_their_gradients() -> Result<()> {
    let case = Case::new(Op::Derf, &[5, 9], DType::F32, DType::F32)?;
    let (Some(gamma), Some(beta)) = (&case.gamma, &case.beta) else { bail!("the case has both") };
    let expected = loss(&case.fused(&case.x)?)?.backward()?;
    // The same with gamma and beta as columns of a table, alpha without a dimension and shift with two.
    let table = Var::from_tensor(&Tensor::stack(&[gamma.as_tensor(), beta.as_tensor()], 1)?)?;
    let alpha = Var::from_tensor(&case.alpha.squeeze(0)?)?;
    let shift = Var::from_tensor(&case.shift.unsqueeze(0)?)?;
    let (weight, bias) = (table.get_on_dim(1, 0)?, table.get_on_dim(1, 1)?);
    assert!(!weight.is_contiguous());
    let affine = Affine::weight(&weight).with_bias(&bias);
    let y = ops::derf(&case.x, &alpha, &shift, affine, Channels::Last)?;
    let grads = loss(&y)?.backward()?;
    let (Some(dalpha), Some(dshift), Some(dtable)) =
        (grads.get(&alpha), grads.get(&shift), grads.get(&table))
    else {
        bail!("a gradient is missing")
    };
    assert_eq!((dalpha.rank(), dshift.rank()), (0, 2));
    let (dgamma, dbeta) = (dtable.get_on_dim(1, 0)?, dtable.get_on_dim(1, 1)?);
    for (actual, var) in [(dalpha, &case.alpha), (dshift, &case.shift), (&dgamma, gamma), (&dbeta, beta)] {
        let Some(expected) = expected.get(var) else { bail!("a gradient is missing") };
        assert_eq!(flat(actual)?, flat(expected)?);
    }
    Ok(())
}

#[test]
fn channels_first_is_channels_last_of_the_permuted() -> Result<()> {
    for op in OPS {
        let mut case = Case::new(op, &[1, 6], DType::F32, DType::F32)?;
        for shape in [&[3, 6][..], &[3, 6, 10], &[2, 6, 4, 5]] {
            let x = tensor(1, shape, DType::F32)?;
            let last = shape.len() - 1;
            let mut order: Vec<usize> = (0..shape.len()).filter(|d| *d != 1).collect();
            order.push(1);
            case.channels = Channels::First;
            let first = case.fused(&x)?;
            assert_eq!(first.dims(), shape);
            case.channels = Channels::Last;
            let expected = case.fused(&x.permute(order.clone())?.contiguous()?)?;
            close(&format!("{op:?} {shape:?} {last}"), &first.permute(order)?, &expected, 1e-6)?;
        }
    }
    Ok(())
}

#[test]
fn the_forward_with_and_without_a_graph_has_the_same_bits() -> Result<()> {
    for op in OPS {
        let case = Case::new(op, &[9, 37], DType::BF16, DType::F32)?;
        let tracked = case.fused(&case.x)?;
        let detached = detached(&case)?;
        assert!(tracked.track_op() && !detached.track_op());
        assert_eq!(flat(&tracked)?, flat(&detached)?, "{op:?}");
    }
    Ok(())
}

/// The op outside of any graph.
fn detached(case: &Case) -> Result<Tensor> {
    let (alpha, shift) = (case.alpha.as_detached_tensor(), case.shift.as_detached_tensor());
    let gamma = case.gamma.as_ref().map(Var::as_detached_tensor);
    let beta = case.beta.as_ref().map(Var::as_detached_tensor);
    let affine = Affine { weight: gamma.as_ref(), bias: beta.as_ref(), offset: case.offset };
    let x = case.x.as_detached_tensor();
    match case.op {
        Op::Dyt => ops::dynamic_tanh(&x, &alpha, affine, Channels::Last),
        Op::Derf => ops::derf(&x, &alpha, &shift, affine, Channels::Last),
        Op::LayerNorm(std) => ops::layer_norm(&x, affine, EPS, std, Channels::Last),
        Op::RmsNorm => ops::rms_norm(&x, affine, EPS, Channels::Last),
    }
}

#[test]
fn only_what_the_graph_asks_for_gets_a_gradient() -> Result<()> {
    for op in OPS {
        let case = Case::new(op, &[4, 6], DType::F32, DType::F32)?;
        // x is data: nothing depends on it.
        let x = case.x.as_detached_tensor();
        let grads = case.fused(&x)?.sum_all()?.backward()?;
        assert!(grads.get(&x).is_none(), "{op:?}");
        for (name, var) in case.variables().into_iter().skip(1) {
            assert!(grads.get(var).is_some(), "{op:?} d{name}");
        }
    }
    Ok(())
}

#[test]
fn tensors_without_elements_pass_through() -> Result<()> {
    for op in OPS {
        let case = Case::new(op, &[1, 6], DType::F32, DType::F32)?;
        let x = Var::from_tensor(&tensor(1, &[0, 6], DType::F32)?)?;
        let y = case.fused(&x)?;
        assert_eq!(y.dims(), [0, 6]);
        let grads = y.sum_all()?.backward()?;
        let Some(dgamma) = case.gamma.as_ref().and_then(|gamma| grads.get(gamma)) else {
            bail!("{op:?}: dgamma is missing")
        };
        assert_eq!(flat(dgamma)?, [0.0; 6]);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    for op in OPS {
        let case = Case::new(op, &[4, 6], DType::F32, DType::F32)?;
        assert!(case.fused(&tensor(1, &[4, 7], DType::F32)?).is_err(), "{op:?}: 7 channels and 6 parameters");
        assert!(case.fused(&tensor(1, &[4, 6], DType::F64)?).is_err(), "{op:?}: f64");
        assert!(case.fused(&tensor(1, &[], DType::F32)?).is_err(), "{op:?}: no dimension");
    }
    let mut case = Case::new(Op::Dyt, &[4, 6], DType::F32, DType::F32)?;
    case.alpha = Var::from_tensor(&tensor(1, &[2], DType::F32)?)?;
    let refused = case.fused(&case.x).map_err(|e| e.to_string());
    assert!(refused.is_err_and(|e| e.contains("alpha")));
    Ok(())
}

#[test]
fn a_wrong_dtype_is_refused_with_the_call_that_sets_it() -> Result<()> {
    for op in OPS {
        let case = Case::new(op, &[4, 6], DType::F32, DType::F32)?;
        for dtype in [DType::F64, DType::U32] {
            let refused = case.fused(&tensor(1, &[4, 6], DType::F32)?.to_dtype(dtype)?);
            let Err(refused) = refused.map_err(|e| e.to_string()) else { bail!("{op:?} took {dtype:?}") };
            for part in [format!("{dtype:?}"), "`.to_dtype(DType::F32)?` on x".into(), "VarBuilder".into()] {
                assert!(refused.contains(&part), "{op:?}: {refused}");
            }
        }
    }
    Ok(())
}
