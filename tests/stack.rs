//! What docs/process.md says of the stack.
#![cfg(not(miri))]

mod common;

use std::thread;

use common::{Inputs, Random, Tensor, devices, problems, quick};
use dyt::{Backward, Device, Forward, Op, Pass, Problem, Quant, Result, Storage};

/// The stack that a call takes by docs/process.md, of which the C library takes some for the thread itself.
const STACK: usize = 32 * 1024;

/// What `work` gives on a thread with no more stack than that. An overflow ends the process.
fn on_a_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).expect("a thread");
        thread.join().expect("the call panicked")
    })
}

/// A forward that saves its statistics, the backward that reads them, and a backward that does not.
fn check(device: &Device, problem: &Problem, inputs: &Inputs) -> Result<()> {
    let mut y = Tensor::zeros(problem.dtype(), problem.span(), 0);
    let mut dx = Tensor::zeros(problem.dtype(), problem.span(), 0);
    let [mut mean, mut rstd] = [(); 2].map(|()| vec![0.0_f32; problem.statistics()]);
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![0.0_f32; problem.cols()]);
    let (mut dalpha, mut dshift) = (0.0_f32, 0.0_f32);
    let mut workspace = vec![0.0_f32; device.workspace_bytes(problem, Pass::Backward).div_ceil(4)];
    let op = problem.op();

    let mut call = inputs.forward(problem, Forward::new(inputs.x.view(), y.view_mut()));
    call.mean = op.has_mean().then(|| mean.as_mut_slice().into());
    call.rstd = (!op.is_pointwise()).then(|| rstd.as_mut_slice().into());
    on_a_small_stack(|| device.forward(problem, call))?;
    for quant in Quant::ALL {
        let quantised = problem.with_quant(Some(quant));
        let mut bytes = Tensor::zeros(quantised.y_dtype(), problem.span(), 0);
        let mut scales = vec![0.0_f32; problem.statistics()];
        let call = inputs.forward(problem, Forward::new(inputs.x.view(), bytes.view_mut()));
        on_a_small_stack(|| device.forward(&quantised, call.scales(&mut scales)))?;
    }
    for saved in [true, false] {
        let call = Backward::of(inputs.x.view()).dy(inputs.dy.view()).dx(dx.view_mut());
        let mut call = inputs.backward(problem, call.dgamma(&mut dgamma).dbeta(&mut dbeta));
        call.dalpha = op.is_pointwise().then(|| (&mut dalpha).into());
        call.dshift = op.has_shift().then(|| (&mut dshift).into());
        call.mean = (saved && op.has_mean()).then(|| mean.as_slice().into());
        call.rstd = (saved && !op.is_pointwise()).then(|| rstd.as_slice().into());
        on_a_small_stack(|| device.backward_with(problem, call, &mut workspace))?;
    }
    Ok(())
}

/// Every kernel on the calling thread: short rows, rows of several tiles, one long row, channels-first, and elements and
/// rows that are done in f64.
#[test]
fn a_call_takes_no_more_than_the_documents_say() -> Result<()> {
    let shapes = [(3, 100, 1), (19, 5003, 1), (1, 70_001, 1), (5, 37, 70)];
    for device in devices() {
        device.set_threads(1);
        for (rows, cols, inner) in shapes {
            let all = problems(rows, cols).into_iter().map(|problem| problem.inner(inner));
            for problem in all.flat_map(|problem| Storage::ALL.map(|storage| problem.storage(storage))) {
                let problem = problem.build()?;
                let mut inputs = Inputs::new(&problem, 3);
                check(&device, &problem, &inputs)?;
                inputs.alpha = 1e20;
                let far: Vec<f32> = Random::new(5).values(problem.span()).iter().map(|x| x * 1e30).collect();
                inputs.x = Tensor::new(problem.dtype(), &far, 0);
                check(&device, &problem, &inputs)?;
            }
        }
    }
    Ok(())
}

/// Outputs larger than the caches are written past them, by kernels of their own.
#[test]
fn outputs_past_the_cache_take_no_more_stack() -> Result<()> {
    if quick() {
        return Ok(());
    }
    for device in devices() {
        device.set_threads(1);
        for op in Op::ALL {
            for storage in [Storage::ALL[0], Storage::ALL[Storage::ALL.len() - 1]] {
                let problem = Problem::new(op, 1500, 3001).storage(storage).build()?;
                check(&device, &problem, &Inputs::new(&problem, 3))?;
            }
        }
    }
    Ok(())
}
