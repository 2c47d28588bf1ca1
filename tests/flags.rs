//! The floating-point flags of the processor: a host that traps invalid operations or divisions by zero must not be
//! stopped by ordinary input.
#![cfg(all(target_arch = "x86_64", not(miri)))]

mod common;

use core::hint::black_box;

use common::modes::{mxcsr, with_mxcsr};
use common::{Gradients, Inputs, Tensor, Wanted, devices, problems};
use dyt::{Device, Forward, Problem, ProblemBuilder, Result, Storage};
use dyt_conformance::staged;

/// The flags of MXCSR that ordinary input must not raise: invalid operation, and division by zero.
const INVALID: u32 = 1;
const DIVIDE_BY_ZERO: u32 = 4;
/// All six flags.
const FLAGS: u32 = 0x3f;

/// The flags that `work` raises on this thread.
fn raised<T>(work: impl FnOnce() -> T) -> (u32, T) {
    let (after, result) = with_mxcsr(mxcsr() & !FLAGS, work);
    (after & FLAGS, result)
}

/// Every op and storage in small shapes: one column, ragged ends of every vector, rows apart, channels-first.
fn small() -> Result<Vec<Problem>> {
    let rows = [(1, 1), (3, 2), (7, 5), (4, 17), (5, 64), (2, 1023)].map(|(rows, cols)| problems(rows, cols));
    let gaps = problems(5, 19).into_iter().map(|p| p.row_stride(23));
    let first = [(2, 1, 7), (1, 5, 3), (3, 4, 67)];
    let first = first.map(|(n, c, s)| problems(n, c).into_iter().map(move |p| p.inner(s)));
    let all = rows.into_iter().flatten().chain(gaps).chain(first.into_iter().flatten());
    let typed = |p: ProblemBuilder| Storage::ALL.map(|storage| p.storage(storage).build());
    all.flat_map(typed).collect()
}

/// A forward that saves what the op has to save; mean and rstd.
fn forward(device: &Device, problem: &Problem, inputs: &Inputs) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut y = Tensor::zeros(problem.dtype(), problem.span(), 0);
    let (mut mean, mut rstd) = (vec![0.0_f32; problem.statistics()], vec![0.0_f32; problem.statistics()]);
    let mut call = inputs.forward(problem, Forward::new(inputs.x.view(), y.view_mut()));
    call.mean = problem.op().has_mean().then(|| mean.as_mut_slice().into());
    call.rstd = (!problem.op().is_pointwise()).then(|| rstd.as_mut_slice().into());
    staged::forward(device, problem, call)?;
    Ok((mean, rstd))
}

/// What the forward and the backward raise beyond what they may.
fn check(device: &Device, problem: &Problem, inputs: &Inputs, failures: &mut Vec<String>) -> Result<()> {
    let mut note = |pass: &str, flags: u32| {
        let wrong = flags & (INVALID | DIVIDE_BY_ZERO);
        if wrong != 0 {
            failures.push(format!("{} {pass}: flags {wrong:#x}, {problem:?}", device.name()));
        }
    };
    let (flags, saved) = raised(|| forward(device, problem, inputs));
    saved?;
    note("forward", flags);
    let gradients = Gradients::new(problem, 0);
    let (flags, result) = raised(|| gradients.run(device, problem, inputs, Wanted::all(problem), false));
    result?;
    note("backward", flags);
    Ok(())
}

#[test]
fn ordinary_input_raises_neither_invalid_nor_divide_by_zero() -> Result<()> {
    let mut failures = Vec::new();
    for device in devices() {
        for problem in small()? {
            let mut inputs = Inputs::new(&problem, 11);
            check(&device, &problem, &inputs, &mut failures)?;
            // Rows of equal values, whose variance is 0.
            inputs.x = Tensor::new(problem.dtype(), &vec![0.75; problem.span()], 0);
            check(&device, &problem, &inputs, &mut failures)?;
            // Tables have no end then.
            inputs.alpha = 0.0;
            check(&device, &problem, &inputs, &mut failures)?;
        }
    }
    failures.truncate(20);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn the_register_is_read() {
    let divide = |a: f32, b: f32| black_box(black_box(a) / black_box(b));
    let (flags, quotient) = raised(|| divide(1.0, 0.0));
    assert!(quotient.is_infinite() && flags & DIVIDE_BY_ZERO != 0, "{flags:#x}");
    let (flags, quotient) = raised(|| divide(0.0, 0.0));
    assert!(quotient.is_nan() && flags & INVALID != 0, "{flags:#x}");
}
