//! Rows that are computed again because their squares underflow, or overflow.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::Features;
use dyt::{Backward, Device, Forward, Op, Problem, Std};

use crate::support::{Outcome, activations, adapters, open};

const ROWS: usize = 3;
const COLS: usize = 70;

/// rstd is 1/√eps, or 1/eps, and dx is rstd·(dy − its mean), since x̂ is 0.
fn check(target: &Device, std: Std, value: f32, eps: f32, inner: usize) -> Outcome {
    let problem = Problem::new(Op::LayerNorm, ROWS, COLS).std(std).eps(eps).inner(inner).build()?;
    let (span, rows) = (problem.span(), problem.statistics());
    let x = target.upload(&vec![value; span])?;
    let (mut y, mut rstd) = (target.upload(&vec![1.0_f32; span])?, target.upload(&vec![1.0_f32; rows])?);
    target.forward(&problem, Forward::new(&x, &mut y).rstd(&mut rstd))?;
    let mut found = vec![0.0_f32; rows];
    target.read(&rstd, &mut found)?;
    let expected = match std {
        Std::Biased => f64::from(eps).sqrt().recip(),
        Std::Unbiased => f64::from(eps).recip(),
    };
    let place = format!("{} {problem:?}", target.name());
    for &rstd in &found {
        assert!(
            (f64::from(rstd) / expected - 1.0).abs() < 2e-6,
            "{place}: rstd is {rstd:e}, not {expected:e}"
        );
    }
    let of_dy = activations(span, 2);
    let (dy, mut dx) = (target.upload(&of_dy)?, target.upload(&vec![1.0_f32; span])?);
    target.backward(&problem, Backward::of(&x).dy(&dy).dx(&mut dx))?;
    let mut found = vec![0.0_f32; span];
    target.read(&dx, &mut found)?;
    // Element c of a row, which has `inner` rows beside it.
    let at = |row: usize, c: usize| (row / inner * COLS + c) * inner + row % inner;
    for row in 0..rows {
        let mean = (0..COLS).map(|c| f64::from(of_dy[at(row, c)])).sum::<f64>() / COLS as f64;
        for c in 0..COLS {
            let exact = expected * (f64::from(of_dy[at(row, c)]) - mean);
            let dx = f64::from(found[at(row, c)]);
            assert!((dx - exact).abs() < 1e-5 * expected, "{place}: dx is {dx:e}, not {exact:e}");
        }
    }
    Ok(())
}

/// Of two values in turns, `value` and `other` times as much.
fn check_largest(target: &Device, (cols, inner): (usize, usize), value: f32, other: f32) -> Outcome {
    for op in [Op::LayerNorm, Op::RmsNorm] {
        let problem = Problem::new(op, ROWS, cols).inner(inner).build()?;
        let factor = |at: usize| if (at / inner).is_multiple_of(2) { 1.0 } else { other };
        let x: Vec<f32> = (0..problem.span()).map(|at| value * factor(at)).collect();
        let (x, mut y) = (target.upload(&x)?, target.upload(&vec![0.0_f32; problem.span()])?);
        target.forward(&problem, Forward::new(&x, &mut y))?;
        let mut found = vec![0.0_f32; problem.span()];
        target.read(&y, &mut found)?;
        // In units of `value`, beside which eps is nothing.
        let mean = if op.has_mean() { (1.0 + other) / 2.0 } else { 0.0 };
        let rms = (((1.0 - mean).powi(2) + (other - mean).powi(2)) / 2.0).sqrt();
        for (at, y) in found.iter().enumerate() {
            let expected = (factor(at) - mean) / rms;
            let place = format!("{} {problem:?} {value:e}", target.name());
            assert!((y - expected).abs() < 4e-6, "{place}: y[{at}] is {y}, not {expected}");
        }
    }
    Ok(())
}

/// Rows of a few lanes and of a workgroup, rows that are read again, and channels-first data.
#[test]
fn rows_of_the_largest_values_come_out_right() -> Outcome {
    for adapter in adapters() {
        let (device, queue) = open(&adapter, Features::empty(), adapter.limits())?;
        let target = Device::from_wgpu(&WgpuKernels::new(&device, &queue)?);
        for shape in [(70, 1), (4096, 1), (8200, 1), (6, 5)] {
            for value in [
                1e19,
                2.0_f32.powi(125),
                2.0_f32.powi(126),
                1.5 * 2.0_f32.powi(126),
                2.0_f32.powi(127),
                f32::MAX,
            ] {
                check_largest(&target, shape, value, -1.0)?;
                check_largest(&target, shape, value, 0.5)?;
            }
        }
    }
    Ok(())
}

#[test]
fn rows_of_equal_values_keep_their_rstd() -> Outcome {
    for adapter in adapters() {
        let (device, queue) = open(&adapter, Features::empty(), adapter.limits())?;
        let target = Device::from_wgpu(&WgpuKernels::new(&device, &queue)?);
        for inner in [1, 5] {
            check(&target, Std::Biased, 1e6, 1e-36, inner)?;
            check(&target, Std::Biased, 1e30, 1e-32, inner)?;
            check(&target, Std::Unbiased, 1e30, 1e-13, inner)?;
        }
    }
    Ok(())
}
