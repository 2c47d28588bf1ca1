//! `dyt run` with `--dy`, against the reference in f64.

use dyt::{DType, Op, Problem, reference};
use dyt_conformance::tolerance::storage_ulp;

use crate::support::{Folder, Outcome, Tensor, ULP, assert_close, dyt, safetensors};

/// A layer, its data, and what the reference says of them.
struct Layer {
    problem: Problem,
    x: Tensor,
    dy: Tensor,
    gamma: Tensor,
    beta: Tensor,
    forward: reference::Forward,
    backward: reference::Backward,
}

const ALPHA: f64 = 0.75;

impl Layer {
    fn new(op: Op, dtype: DType, rows: usize, cols: usize) -> Outcome<Self> {
        let problem = Problem::new(op, rows, cols).dtype(dtype).build()?;
        let (x, dy) = (Tensor::random(dtype, &[rows, cols], 1), Tensor::random(dtype, &[rows, cols], 2));
        let (gamma, beta) = (Tensor::random(dtype, &[cols], 3), Tensor::random(dtype, &[cols], 4));
        let (wide, wide_gamma, wide_beta) = (x.wide(), gamma.wide(), beta.wide());
        let shift = if op.has_shift() { 0.25 } else { 0.0 };
        let inputs = reference::Inputs {
            alpha: if op.is_pointwise() { ALPHA } else { 1.0 },
            shift,
            gamma: Some(&wide_gamma),
            beta: Some(&wide_beta),
            ..reference::Inputs::new(&wide)
        };
        let forward = reference::forward(&problem, &inputs)?;
        let backward = reference::backward(&problem, &inputs, &dy.wide())?;
        Ok(Self { problem, x, dy, gamma, beta, forward, backward })
    }

    /// Runs the command on the layer in one file, and returns what it printed.
    fn run(&self, folder: &Folder, more: &[&str]) -> Outcome<String> {
        let op = self.problem.op();
        let tensors = [("x", &self.x), ("dy", &self.dy), ("gamma", &self.gamma), ("beta", &self.beta)];
        let file = folder.write("in.safetensors", &safetensors(&tensors))?;
        let [x, dy, gamma, beta] = ["x", "dy", "gamma", "beta"].map(|name| format!("{file}:{name}"));
        let output = folder.file("dx.npy");
        let mut arguments =
            vec!["run", op.name(), "--force", "--input", &x, "--dy", &dy, "--output", &output];
        arguments.extend(["--gamma", &gamma, "--beta", &beta]);
        if op.is_pointwise() {
            arguments.extend(["--alpha", "0.75"]);
        }
        if op.has_shift() {
            arguments.extend(["--shift", "0.25"]);
        }
        Ok(dyt(&[&arguments[..], more].concat())?.succeeded().stdout)
    }

    fn check_dx(&self, dx: &Tensor) {
        let (problem, forward, expected) = (&self.problem, &self.forward, &self.backward);
        let bound = |place: reference::Place| {
            let (at, row) = (place.at, place.statistic);
            let u = forward.u[at];
            let arithmetic = match problem.op() {
                Op::Dyt => (6.0 + 2.0 * u.abs()) * ULP * expected.dx[at].abs(),
                Op::Derf => (6.0 + 2.0 * u * u) * ULP * expected.dx[at].abs(),
                Op::LayerNorm | Op::RmsNorm => {
                    let largest =
                        reference::row(problem, row).map(|at| expected.h[at].abs()).fold(0.0, f64::max);
                    4e-6 * forward.rstd[row] * largest * (1.0 + forward.f[at].abs())
                }
            };
            match problem.dtype() {
                DType::F32 | DType::Quant(_) => arithmetic,
                dtype @ (DType::F16 | DType::Bf16) => arithmetic + storage_ulp(dtype, expected.dx[at]),
            }
        };
        let bounds: Vec<f64> = reference::places(problem).map(bound).collect();
        assert_close("dx", &dx.values, &expected.dx, &bounds);
    }

    /// Σ of the magnitudes of what `term` says of each element, by column.
    fn magnitudes(&self, term: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.problem.cols()];
        reference::places(&self.problem).for_each(|place| sums[place.param] += 1e-6 * term(place.at).abs());
        sums
    }

    fn check_gradients(&self, get: impl Fn(&str) -> Outcome<Vec<f32>>) -> Outcome {
        let (op, forward, expected) = (self.problem.op(), &self.forward, &self.backward);
        let (x, dy) = (self.x.wide(), self.dy.wide());
        let norm = if op.is_pointwise() { 0.0 } else { 1.0 };
        let dgamma = self.magnitudes(|at| dy[at].abs() * (norm + forward.f[at].abs()));
        assert_close("dgamma", &get("dgamma")?, &expected.dgamma, &dgamma);
        assert_close("dbeta", &get("dbeta")?, &expected.dbeta, &self.magnitudes(|at| dy[at]));
        let factor = |at: usize| {
            let steepness = dyt_conformance::tolerance::steepness(op, forward.u[at]);
            (1.0 + steepness) * expected.h[at] * expected.slope[at]
        };
        if op.is_pointwise() {
            let bound = self.magnitudes(|at| factor(at) * x[at]).iter().sum();
            assert_close("dalpha", &get("dalpha")?, &[expected.dalpha], &[bound]);
        }
        if op.has_shift() {
            let bound = self.magnitudes(factor).iter().sum();
            assert_close("dshift", &get("dshift")?, &[expected.dshift], &[bound]);
        }
        Ok(())
    }
}

#[test]
fn dsum_joins_dx() -> Outcome {
    let folder = Folder::new()?;
    for op in Op::ALL {
        let mut layer = Layer::new(op, DType::F32, 11, 37)?;
        layer.run(&folder, &[])?;
        let alone = Tensor::read_npy(&folder.read("dx.npy")?, &layer.x)?;
        let dsum = Tensor::random(DType::F32, &[11, 37], 7);
        let file = folder.write("dsum.npy", &dsum.npy())?;
        layer.run(&folder, &["--dsum", &file, "--block-rows", "3"])?;
        let dx = Tensor::read_npy(&folder.read("dx.npy")?, &layer.x)?;
        let sums: Vec<f32> = alone.values.iter().zip(&dsum.values).map(|(a, b)| a + b).collect();
        assert_eq!(dx.values, sums, "{op}");
        for (expected, joins) in layer.backward.dx.iter_mut().zip(dsum.wide()) {
            *expected += joins;
        }
        let near =
            dx.values.iter().zip(&layer.backward.dx).all(|(got, dx)| (f64::from(*got) - dx).abs() < 1e-4);
        assert!(near, "{op}");
    }
    Ok(())
}

#[test]
fn every_op_and_dtype() -> Outcome {
    let folder = Folder::new()?;
    for op in Op::ALL {
        for dtype in DType::ALL {
            let layer = Layer::new(op, dtype, 50, 37)?;
            let file = folder.file("gradients.safetensors");
            assert_eq!(layer.run(&folder, &["--gradients", &file, "--block-rows", "7"])?, "");
            layer.check_dx(&Tensor::read_npy(&folder.read("dx.npy")?, &layer.x)?);
            let bytes = folder.read("gradients.safetensors")?;
            layer.check_gradients(|name| {
                let gradient = Tensor::read_safetensors(&bytes, name)?;
                assert_eq!(gradient.dtype, DType::F32);
                Ok(gradient.values)
            })?;
            assert_eq!(bytes.windows(6).any(|w| w == b"dalpha"), op.is_pointwise());
            assert_eq!(folder.names()?, ["dx.npy", "gradients.safetensors", "in.safetensors"]);
        }
    }
    Ok(())
}

#[test]
fn gradients_are_printed_where_no_file_is_named() -> Outcome {
    let folder = Folder::new()?;
    let layer = Layer::new(Op::Derf, DType::F32, 20, 5)?;
    let printed = layer.run(&folder, &[])?;
    assert_eq!(printed.lines().count(), 4, "{printed}");
    layer.check_gradients(|name| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)).ok_or("not printed")?;
        Ok(line.split_whitespace().map(str::parse).collect::<Result<Vec<f32>, _>>()?)
    })
}

#[test]
fn many_blocks_lose_no_accuracy() -> Outcome {
    let folder = Folder::new()?;
    // Equal rows: added one by one in f32, 20,000 of them would drift by some 1e-4.
    let mut layer = Layer::new(Op::LayerNorm, DType::F32, 20_000, 3)?;
    let (x, dy) = ([0.3, -1.1, 0.7], [0.1, 0.7, -0.3]);
    layer.x.values = x.repeat(20_000);
    layer.dy.values = dy.repeat(20_000);
    let (wide, gamma) = (layer.x.wide(), layer.gamma.wide());
    let inputs = reference::Inputs { gamma: Some(&gamma), ..reference::Inputs::new(&wide) };
    layer.forward = reference::forward(&layer.problem, &inputs)?;
    layer.backward = reference::backward(&layer.problem, &inputs, &layer.dy.wide())?;
    let printed = layer.run(&folder, &["--block-rows", "1"])?;
    layer.check_gradients(|name| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)).ok_or("not printed")?;
        Ok(line.split_whitespace().map(str::parse).collect::<Result<Vec<f32>, _>>()?)
    })
}
