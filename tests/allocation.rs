//! `forward` and `backward_with` allocate nothing. A binary of its own, since it counts what the allocator is asked.

mod common;

use core::cell::Cell;
use std::alloc::{GlobalAlloc, Layout, System};

use dyt::{Backward, DType, Device, Forward, Pass, Problem, Result};

/// The system's allocator, which counts the requests of each thread.
struct Counting;

thread_local! {
    static REQUESTS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends, nobody asks for its number any more.
    let _ = REQUESTS.try_with(|requests| requests.set(requests.get() + 1));
}

// SAFETY: every request is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What this thread asks the allocator for during `work`.
fn requests<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = REQUESTS.get();
    let result = work();
    (REQUESTS.get() - before, result)
}

#[test]
fn the_count_counts() {
    let (n, boxed) = requests(|| Box::new([1_u8; 100]));
    assert_eq!((n, boxed[99]), (1, 1));
    assert_eq!(requests(|| 1).0, 0);
}

#[test]
fn calls_allocate_nothing() -> Result<()> {
    for (rows, cols) in [(1, 1), (7, 17), (64, 768), (3, 40_000), (0, 5)] {
        for builder in common::problems(rows, cols) {
            for dtype in DType::ALL {
                check(&builder.dtype(dtype).build()?)?;
                check(&builder.dtype(dtype).param_dtype(DType::F32).accumulate(true).build()?)?;
            }
            if rows * cols < 10_000 {
                check(&builder.inner(9).build()?)?;
            }
        }
    }
    Ok(())
}

fn check(problem: &Problem) -> Result<()> {
    assert!(problem.elements() < 128 * 1024, "larger problems wake other threads");
    let op = problem.op();
    let zeros = || vec![0.0_f32; problem.statistics()];
    let columns = || vec![0.0_f32; problem.cols()];
    for device in common::devices() {
        let inputs = common::Inputs::new(problem, 1);
        let mut y = common::Tensor::zeros(problem.dtype(), problem.span(), 0);
        let (mut mean, mut rstd) = (zeros(), zeros());
        let (n, result) = requests(|| {
            let mut arguments = inputs.forward(problem, Forward::new(inputs.x.view(), y.view_mut()));
            arguments.mean = op.has_mean().then(|| (&mut mean).into());
            arguments.rstd = (!op.is_pointwise()).then(|| (&mut rstd).into());
            device.forward(problem, arguments)
        });
        result?;
        assert_eq!(n, 0, "{} {problem:?} forward", device.name());

        let mut workspace = workspace(&device, problem);
        let mut dx = common::Tensor::zeros(problem.dtype(), problem.span(), 0);
        let (mut dalpha, mut dshift, mut dgamma, mut dbeta) = (0.0_f32, 0.0_f32, columns(), columns());
        let (n, result) = requests(|| {
            let arguments = Backward::of(inputs.x.view()).dy(inputs.dy.view());
            let mut arguments = inputs.backward(problem, arguments).dx(dx.view_mut());
            arguments = arguments.dgamma(&mut dgamma).dbeta(&mut dbeta);
            arguments.dalpha = op.is_pointwise().then(|| (&mut dalpha).into());
            arguments.dshift = op.has_shift().then(|| (&mut dshift).into());
            arguments.mean = op.has_mean().then(|| (&mean).into());
            arguments.rstd = (!op.is_pointwise()).then(|| (&rstd).into());
            device.backward_with(problem, arguments, &mut workspace)
        });
        result?;
        assert_eq!(n, 0, "{} {problem:?} backward", device.name());
    }
    Ok(())
}

fn workspace(device: &Device, problem: &Problem) -> Vec<f32> {
    vec![0.0; device.workspace_bytes(problem, Pass::Backward).div_ceil(4)]
}
