//! Rows of which f32 does not hold the squares, in every form of the kernels.

use std::error::Error;

use dyt::{Backward, DType, Forward, Op, Pass, Problem, Std, Storage, reference};
use dyt_conformance::{Case, Random, Statistics, Target, VARIANTS, Values, assert_all_pass, run_all};
use dyt_simt::Simt;

type Outcome = Result<(), Box<dyn Error>>;

/// Rows, columns and inner: rows that share a warp; warps that share a row, several rows in a block of the backward; rows of
/// many warps; rows that no registers hold in the backward, and in both passes; all of these by vectors or by elements;
/// channels-first.
const SHAPES: [[usize; 3]; 9] = [
    [9, 48, 1],
    [9, 45, 1],
    [7, 1040, 1],
    [5, 259, 1],
    [2, 4112, 1],
    [2, 2053, 1],
    [2, 16_416, 1],
    [2, 4101, 1],
    [2, 37, 35],
];

/// With a row in three that holds NaN and infinities, for the ways that such rows take.
const VALUES: [Values; 3] = [Values::HugeNormal, Values::TinyNormal, Values::NonFinite];

#[test]
fn every_form_passes() -> Outcome {
    let mut list = Vec::new();
    let norms = VARIANTS.into_iter().filter(|(op, _)| !op.is_pointwise());
    for (i, (op, std)) in norms.enumerate() {
        let storages = Storage::ALL.into_iter().filter(|storage| storage.dtype() != DType::F16);
        for (k, storage) in storages.enumerate() {
            for (n, [rows, cols, inner]) in SHAPES.into_iter().enumerate() {
                // 16 bits have twice as many columns for a vector.
                let cols = if cols == 16_416 && storage.dtype() != DType::F32 { 2 * cols } else { cols };
                let problem = Problem::new(op, rows, cols).std(std).storage(storage).inner(inner);
                for (v, values) in VALUES.into_iter().enumerate() {
                    let eps = if values == Values::HugeNormal { 1e-5 } else { 0.0 };
                    let case = Case::new(problem.eps(eps).build()?, values);
                    // Even seeds leave rows on the boundaries of vectors.
                    let seed = 4 * (i + k + n + v) as u64;
                    list.push(case.statistics(Statistics::ALL[(i + n + v) % 4]).in_place(v == 1).seed(seed));
                }
            }
        }
    }
    assert_all_pass(&run_all(&[Simt::new()], &list)?);
    Ok(())
}

/// Equal values have no variance at any scale, however small eps is: y is beta, rstd comes of eps alone.
#[test]
fn rows_of_equal_values_keep_their_rstd() -> Outcome {
    let mut list = Vec::new();
    for [rows, cols, inner] in SHAPES {
        for (std, eps) in [(Std::Biased, 1e-36), (Std::Unbiased, 1e-13)] {
            for seed in [0, 8, 16] {
                let problem =
                    Problem::new(Op::LayerNorm, rows, cols).std(std).eps(eps).inner(inner).build()?;
                let statistics = [Statistics::Saved, Statistics::Recomputed][seed as usize / 8 % 2];
                list.push(Case::new(problem, Values::EqualRows).statistics(statistics).seed(seed));
            }
        }
    }
    assert_all_pass(&run_all(&[Simt::new()], &list)?);
    Ok(())
}

/// y, mean, rstd, dx, dgamma.
fn run(problem: &Problem, x: &[f32], dy: &[f32], saved: bool) -> Result<[Vec<f32>; 5], dyt::Error> {
    let (target, rows) = (Simt::new(), problem.statistics());
    let (mut y, mut dx, mut dgamma) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; problem.cols()]);
    let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
    let gamma = vec![1.0_f32; problem.cols()];
    let forward = Forward::new(x, &mut y).gamma(&gamma).rstd(&mut rstd);
    let has_mean = problem.op().has_mean();
    target.forward(problem, if has_mean { forward.mean(&mut mean) } else { forward })?;
    let mut backward = Backward::of(x).dy(dy).gamma(&gamma).dx(&mut dx).dgamma(&mut dgamma);
    if saved {
        backward = backward.rstd(&rstd);
        backward = if has_mean { backward.mean(&mean) } else { backward };
    }
    let mut workspace = vec![0.0_f32; target.workspace_bytes(problem, Pass::Backward) / 4];
    target.backward_with(problem, backward, (&mut workspace[..]).into())?;
    Ok([y, mean, rstd, dx, dgamma])
}

/// Rows that share a warp or a block with one that strays have the bits that they have without it.
#[test]
fn a_row_that_strays_leaves_the_others_alone() -> Outcome {
    for (op, [rows, cols, inner]) in
        [Op::LayerNorm, Op::RmsNorm].into_iter().flat_map(|op| SHAPES.map(|shape| (op, shape)))
    {
        let problem = Problem::new(op, rows, cols).inner(inner).build()?;
        let mut random = Random::new(11);
        let mut normal = |n: usize| (0..n).map(|_| random.normal() as f32).collect::<Vec<_>>();
        let (x, dy) = (normal(problem.span()), normal(problem.span()));
        let mut other = x.clone();
        for at in reference::row(&problem, 1) {
            other[at] *= 1e25;
        }
        for saved in [false, true] {
            let (plain, beside) = (run(&problem, &x, &dy, saved)?, run(&problem, &other, &dy, saved)?);
            for place in reference::places(&problem).filter(|place| place.statistic != 1) {
                for (one, two) in [(&plain[0], &beside[0]), (&plain[3], &beside[3])] {
                    assert_eq!(one[place.at].to_bits(), two[place.at].to_bits(), "{problem:?} {place:?}");
                }
            }
        }
    }
    Ok(())
}

/// Squares that f32 holds, and products with dy that it does not; and values and gradients as large as they may be.
#[test]
fn products_may_overflow() -> Outcome {
    for (op, [rows, cols, inner]) in
        [Op::LayerNorm, Op::RmsNorm].into_iter().flat_map(|op| SHAPES.map(|shape| (op, shape)))
    {
        for (of_x, of_dy) in [(1e16, 1e26), (1e9, 1e32), (1e30, 1e32), (3e-18, 1e-27)] {
            let problem = Problem::new(op, rows, cols).inner(inner).eps(0.0).build()?;
            let mut random = Random::new(12);
            let mut normal = |scale: f64| -> Vec<f32> {
                (0..problem.span()).map(|_| (scale * random.normal()) as f32).collect()
            };
            let (x, dy) = (normal(of_x), normal(of_dy));
            let widened = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let (wide_x, wide_dy) = (widened(&x), widened(&dy));
            let inputs = reference::Inputs::new(&wide_x);
            let forward = reference::forward(&problem, &inputs)?;
            let exact = reference::backward(&problem, &inputs, &wide_dy)?;
            for saved in [false, true] {
                let [_, _, rstd, dx, _] = run(&problem, &x, &dy, saved)?;
                for place in reference::places(&problem) {
                    let (found, right) = (f64::from(dx[place.at]), exact.dx[place.at]);
                    let bound = 1e-5 * forward.rstd[place.statistic] * of_dy * 5.0;
                    assert!(
                        (found - right).abs() <= bound,
                        "{problem:?} x {of_x:e} dy {of_dy:e} saved {saved} {place:?}: {found:e}, not {right:e}"
                    );
                }
                for (found, right) in rstd.iter().zip(&forward.rstd) {
                    assert!(
                        (f64::from(*found) / right - 1.0).abs() < 2e-6,
                        "{problem:?}: {found:e}, not {right:e}"
                    );
                }
            }
        }
    }
    Ok(())
}
