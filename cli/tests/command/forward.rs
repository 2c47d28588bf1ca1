//! `dyt run` without `--dy`, against the reference in f64.

use dyt::{DType, Op, Problem, Std, reference};

use crate::support::{Folder, Outcome, Tensor, assert_close, dyt, safetensors, y_bounds};

/// Compares `y` with the reference of `problem`.
fn check(
    problem: &Problem,
    x: &Tensor,
    y: &Tensor,
    alpha: f64,
    shift: f64,
    params: [Option<&Tensor>; 2],
) -> Outcome {
    let [gamma, beta] = params.map(|tensor| tensor.map(Tensor::wide));
    let x = x.wide();
    let inputs = reference::Inputs {
        alpha,
        shift,
        gamma: gamma.as_deref(),
        beta: beta.as_deref(),
        ..reference::Inputs::new(&x)
    };
    let forward = reference::forward(problem, &inputs)?;
    assert_close("y", &y.values, &forward.y, &y_bounds(problem, &inputs, &forward));
    Ok(())
}

#[test]
fn every_op_and_dtype_from_npy() -> Outcome {
    let folder = Folder::new()?;
    for dtype in DType::ALL {
        let x = Tensor::random(dtype, &[3, 5, 33], 1);
        let input = folder.write("x.npy", &x.npy())?;
        for op in Op::ALL {
            let mut arguments = vec!["run", op.name(), "--force", "--input", &input];
            if op.is_pointwise() {
                arguments.extend(["--alpha", "0.75"]);
            }
            if op.has_shift() {
                arguments.extend(["--shift", "-0.5"]);
            }
            let output = folder.file("y.npy");
            dyt(&[&arguments[..], &["--output", &output]].concat())?.succeeded();
            let y = Tensor::read_npy(&folder.read("y.npy")?, &x)?;
            let problem = Problem::new(op, 15, 33).dtype(dtype).build()?;
            check(&problem, &x, &y, 0.75, if op.has_shift() { -0.5 } else { 0.0 }, [None, None])?;
        }
    }
    Ok(())
}

#[test]
fn a_layer_of_a_checkpoint() -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::Bf16, &[7, 48], 2);
    let (gamma, beta) = (Tensor::random(DType::Bf16, &[48], 3), Tensor::random(DType::F32, &[48], 4));
    let alpha = Tensor { dtype: DType::F32, shape: vec![1], values: vec![0.625] };
    let tensors = [("norm.alpha", &alpha), ("norm.weight", &gamma), ("norm.bias", &beta), ("x", &x)];
    let file = folder.write("layer.safetensors", &safetensors(&tensors))?;
    let named = |name: &str| format!("{file}:{name}");
    let output = folder.file("out.safetensors");
    let arguments = ["run", "DyT", "--input", &file, "--tensor", "x", "--output", &output];
    let (alpha, weight, bias) = (named("norm.alpha"), named("norm.weight"), named("norm.bias"));
    let parameters = ["--alpha", &alpha, "--gamma", &weight, "--beta", &bias];
    dyt(&[&arguments[..], &parameters].concat())?.succeeded();
    let y = Tensor::read_safetensors(&folder.read("out.safetensors")?, "y")?;
    assert_eq!((y.dtype, &y.shape), (x.dtype, &x.shape));
    let problem = Problem::new(Op::Dyt, 7, 48).dtype(DType::Bf16).build()?;
    check(&problem, &x, &y, 0.625, 0.0, [Some(&gamma), Some(&beta)])
}

#[test]
fn a_residual_joins_x() -> Outcome {
    let folder = Folder::new()?;
    for dtype in DType::ALL {
        let [x, residual] = [1, 2].map(|seed| Tensor::random(dtype, &[9, 33], seed));
        let tensors = [("x", &x), ("r", &residual)];
        let file = folder.write("in.safetensors", &safetensors(&tensors))?;
        let [x_name, r_name, sum_name] = ["x", "r", "sum"].map(|name| format!("{file}:{name}"));
        let output = folder.file("y.npy");
        let arguments = ["run", "rms_norm", "--force", "--input", &x_name, "--residual", &r_name];
        let written = ["--sum", &sum_name, "--output", &output, "--block-rows", "2"];
        dyt(&[&arguments[..], &written].concat())?.succeeded();
        let y = Tensor::read_npy(&folder.read("y.npy")?, &x)?;
        let sum = Tensor::read_safetensors(&folder.read("in.safetensors")?, "sum")?;
        let problem = Problem::new(Op::RmsNorm, 9, 33).dtype(dtype).build()?;
        let (wide, added) = (x.wide(), residual.wide());
        let inputs = reference::Inputs { residual: Some(&added), ..reference::Inputs::new(&wide) };
        let forward = reference::forward(&problem, &inputs)?;
        assert_eq!(sum.wide(), forward.sum);
        assert_close("y", &y.values, &forward.y, &y_bounds(&problem, &inputs, &forward));
    }
    Ok(())
}

#[test]
fn an_offset_joins_gamma() -> Outcome {
    let folder = Folder::new()?;
    let (x, gamma) = (Tensor::random(DType::Bf16, &[6, 40], 9), Tensor::random(DType::Bf16, &[40], 10));
    let (input, weight) = (folder.write("x.npy", &x.npy())?, folder.write("w.npy", &gamma.npy())?);
    let output = folder.file("y.npy");
    let arguments = ["run", "rms_norm", "--input", &input, "--output", &output];
    let options = ["--gamma", &weight, "--gamma-offset", "1"];
    dyt(&[&arguments[..], &options].concat())?.succeeded();
    let y = Tensor::read_npy(&folder.read("y.npy")?, &x)?;
    let problem = Problem::new(Op::RmsNorm, 6, 40).dtype(DType::Bf16).gamma_offset(1.0).build()?;
    check(&problem, &x, &y, 1.0, 0.0, [Some(&gamma), None])
}

#[test]
fn channels_first_and_the_unbiased_form() -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F32, &[2, 6, 3, 4], 5);
    let gamma = Tensor::random(DType::F16, &[6], 6);
    let input = folder.write("x.safetensors", &safetensors(&[("only", &x)]))?;
    let weight = folder.write("gamma.npy", &gamma.npy())?;
    let output = folder.file("y.npy");
    let arguments = ["run", "layernorm", "--input", &input, "--output", &output, "--gamma", &weight];
    let options = ["--channels-first", "--std", "unbiased", "--eps", "0.125", "--device", "cpu:portable"];
    dyt(&[&arguments[..], &options].concat())?.succeeded();
    let y = Tensor::read_npy(&folder.read("y.npy")?, &x)?;
    let problem = Problem::new(Op::LayerNorm, 2, 6).inner(12).std(Std::Unbiased).eps(0.125).build()?;
    check(&problem, &x, &y, 1.0, 0.0, [Some(&gamma), None])
}

#[test]
fn one_dimension_is_one_row_and_no_rows_are_no_error() -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F32, &[100], 7);
    let input = folder.write("x.npy", &x.npy())?;
    let output = folder.file("y.npy");
    dyt(&["run", "rms_norm", "--input", &input, "--output", &output])?.succeeded();
    let y = Tensor::read_npy(&folder.read("y.npy")?, &x)?;
    check(&Problem::new(Op::RmsNorm, 1, 100).build()?, &x, &y, 1.0, 0.0, [None, None])?;

    let none = Tensor { dtype: DType::F16, shape: vec![0, 9], values: Vec::new() };
    let input = folder.write("none.npy", &none.npy())?;
    dyt(&["run", "rms_norm", "--force", "--input", &input, "--output", &output])?.succeeded();
    assert_eq!(Tensor::read_npy(&folder.read("y.npy")?, &none)?, none);
    Ok(())
}

#[test]
fn the_output_may_have_a_name_and_replace_the_input() -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F32, &[4, 8], 8);
    let file = folder.write("t.safetensors", &safetensors(&[("h", &x)]))?;
    let output = format!("{file}:h");
    dyt(&["run", "derf", "--alpha", "0.5", "--input", &file, "--output", &output])?.succeeded();
    let y = Tensor::read_safetensors(&folder.read("t.safetensors")?, "h")?;
    check(&Problem::new(Op::Derf, 4, 8).build()?, &x, &y, 0.5, 0.0, [None, None])?;
    assert_eq!(folder.names()?, ["t.safetensors"]);
    Ok(())
}

#[test]
fn groups_of_rows_have_parameters_of_their_own() -> Outcome {
    let folder = Folder::new()?;
    // Three samples of four tokens; beta is the same for all. Blocks do not end where the samples do.
    let x = Tensor::random(DType::F32, &[3, 4, 10], 1);
    let (gamma, beta) = (Tensor::random(DType::F32, &[3, 10], 2), Tensor::random(DType::F32, &[10], 3));
    let input = folder.write("x.npy", &x.npy())?;
    let (scale, shift) = (folder.write("gamma.npy", &gamma.npy())?, folder.write("beta.npy", &beta.npy())?);
    let output = folder.file("y.npy");
    let arguments = ["run", "rms_norm", "--input", &input, "--gamma", &scale, "--beta", &shift];
    dyt(&[&arguments[..], &["--block-rows", "5", "--output", &output]].concat())?.succeeded();
    let y = Tensor::read_npy(&folder.read("y.npy")?, &x)?;
    let problem = Problem::new(Op::RmsNorm, 12, 10).param_rows(4).build()?;
    let beta = Tensor { shape: vec![3, 10], values: beta.values.repeat(3), ..beta };
    check(&problem, &x, &y, 0.0, 0.0, [Some(&gamma), Some(&beta)])?;
    // The gradients are as the parameters.
    let gradients = folder.file("gradients.safetensors");
    let backward = ["--dy", &input, "--block-rows", "3", "--gradients", &gradients, "--force"];
    dyt(&[&arguments[..], &backward, &["--output", &output]].concat())?.succeeded();
    let dgamma = Tensor::read_safetensors(&folder.read("gradients.safetensors")?, "dgamma")?;
    assert_eq!(dgamma.values.len(), 30);
    // Five rows do not divide twelve.
    let wrong = folder.write("gamma.npy", &Tensor::random(DType::F32, &[5, 10], 2).npy())?;
    let wrong = ["run", "rms_norm", "--input", &input, "--gamma", &wrong, "--force", "--output", &output];
    dyt(&wrong)?.refused(1, "50 elements, expected 10");
    Ok(())
}
