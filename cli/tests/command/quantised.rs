//! `dyt run --quantise`: the types of the files, both kinds of scale, and what is refused.

use dyt::{DType, Quant, reference};

use crate::support::{Folder, Outcome, Ran, Tensor, dyt};

fn run(op: &str, input: &str, output: &str, more: &[&str]) -> Outcome<Ran> {
    dyt(&[&["run", op, "--device", "cpu", "--input", input, "--output", output], more].concat())
}

/// y of a norm in f32, its quantised form, and the scales that were found for it.
fn check(shape: &[usize], quant: Quant, more: &[&str]) -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F32, shape, 3);
    let input = folder.write("x.npy", &x.npy())?;
    let (plain, y, scales) = (folder.file("plain.npy"), folder.file("y.safetensors"), folder.file("s.npy"));
    run("rms_norm", &input, &plain, more)?.succeeded();
    let v = Tensor::read_npy(&folder.read("plain.npy")?, &x)?;
    let name = quant.name();
    let by_row = ["--quantise", name, "--scales", &scales, "--block-rows", "2"];
    run("rms_norm", &input, &y, &[more, &by_row].concat())?.succeeded();
    let got = Tensor::read_safetensors(&folder.read("y.safetensors")?, "y")?;
    assert_eq!((got.dtype, &got.shape), (DType::Quant(quant), &x.shape));
    let (rows, inner) = if more.is_empty() { (x.values.len() / shape[1], 1) } else { (shape[0], shape[2]) };
    let found = Tensor { dtype: DType::F32, shape: vec![rows], values: vec![0.0; rows * inner] };
    let found = Tensor { shape: if more.is_empty() { vec![rows] } else { vec![rows, inner] }, ..found };
    let scales = Tensor::read_npy(&folder.read("s.npy")?, &found)?;
    for (at, y) in got.values.iter().enumerate() {
        let row = at / (shape[1] * inner) * inner + at % inner;
        let v = f64::from(v.values[at] / scales.values[row]);
        assert_eq!(f64::from(*y), reference::quantised(quant, v, 1.0), "{name} {at}");
    }
    let largest = got.values.iter().fold(0.0_f32, |most, y| most.max(y.abs()));
    assert_eq!(largest, quant.largest());
    let given = ["--quantise", name, "--scale", "0.25", "--force"];
    run("rms_norm", &input, &y, &[more, &given].concat())?.succeeded();
    let got = Tensor::read_safetensors(&folder.read("y.safetensors")?, "y")?;
    for (y, v) in got.values.iter().zip(&v.values) {
        assert_eq!(f64::from(*y), reference::quantised(quant, f64::from(v / 0.25), 1.0), "{name}");
    }
    Ok(())
}

#[test]
fn y_is_divided_and_rounded() -> Outcome {
    for quant in Quant::ALL {
        check(&[5, 37], quant, &[])?;
        check(&[3, 7, 11], quant, &["--channels-first"])?;
    }
    Ok(())
}

#[test]
fn npy_has_integers_alone() -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F16, &[4, 8], 1);
    let (input, output) = (folder.write("x.npy", &x.npy())?, folder.file("y.npy"));
    let quantise = ["--alpha", "0.5", "--scale", "0.01", "--quantise"];
    run("dyt", &input, &output, &[&quantise[..], &["i8"]].concat())?.succeeded();
    let like = Tensor { dtype: DType::Quant(Quant::I8), ..x };
    let y = Tensor::read_npy(&folder.read("y.npy")?, &like)?;
    assert!(y.values.iter().any(|y| y.abs() > 20.0));
    run("dyt", &input, &output, &[&quantise[..], &["F8_E4M3"]].concat())?.refused(2, "NumPy has no f8e4m3");
    Ok(())
}

#[test]
fn a_residual_joins_before() -> Outcome {
    let folder = Folder::new()?;
    let (x, residual) = (Tensor::random(DType::F32, &[4, 8], 1), Tensor::random(DType::F32, &[4, 8], 2));
    let (input, added) = (folder.write("x.npy", &x.npy())?, folder.write("r.npy", &residual.npy())?);
    let (y, sum) = (folder.file("y.npy"), folder.file("sum.npy"));
    let options = ["--quantise", "i8", "--scale", "0.01", "--residual", &added, "--sum", &sum];
    run("rms_norm", &input, &y, &options)?.succeeded();
    let sum = Tensor::read_npy(&folder.read("sum.npy")?, &x)?;
    let expected: Vec<f32> = x.values.iter().zip(&residual.values).map(|(x, r)| x + r).collect();
    assert_eq!(sum.values, expected);
    Ok(())
}

#[test]
fn what_does_not_belong_together_is_refused() -> Outcome {
    let folder = Folder::new()?;
    let x = Tensor::random(DType::F32, &[4, 8], 1);
    let (input, y) = (folder.write("x.npy", &x.npy())?, folder.file("y.safetensors"));
    run("rms_norm", &input, &y, &["--quantise", "i8"])?.refused(2, "--quantise needs --scale or --scales");
    run("rms_norm", &input, &y, &["--quantise", "i8", "--scales", &y])?.refused(2, "are the same file");
    let refused = |options: &[&str]| -> Outcome {
        let ran = run("rms_norm", &input, &y, options)?;
        assert_eq!(ran.code, Some(2), "{options:?}: {ran:?}");
        Ok(())
    };
    refused(&["--scale", "1"])?;
    refused(&["--quantise", "i4", "--scale", "1"])?;
    refused(&["--quantise", "i8", "--scale", "1", "--scales", "s.npy"])?;
    refused(&["--quantise", "i8", "--scale", "1", "--dy", &input])?;
    assert_eq!(folder.names()?, ["x.npy"]);
    Ok(())
}
