//! DyT and Derf: each element by itself, with sums over rows in the backward.

mod backward;
mod forward;

use core::marker::PhantomData;

use crate::cpu::curve::{Curve, Erf, Tanh};
use crate::cpu::types::{Typed, with_types};
use crate::cpu::parallel::{self, Shared};
use crate::cpu::{Cpu, fold, plan};
use crate::dtype::Element;
use crate::ops::{BackwardPtrs, ForwardPtrs};
use crate::{Op, Problem};

/// What a launch needs beside the storage types.
#[derive(Clone, Copy)]
struct Launch<'a, A> {
    cpu: &'a Cpu,
    problem: &'a Problem,
    arguments: &'a A,
    workspace: *mut f32,
}

/// # Safety
/// The arguments are checked against the problem.
pub(super) unsafe fn forward(cpu: &Cpu, problem: &Problem, arguments: &ForwardPtrs) {
    with_types(problem, Launch { cpu, problem, arguments, workspace: core::ptr::null_mut() });
}

/// # Safety
/// The arguments are checked against the problem, and the workspace is as large as the plan says.
pub(super) unsafe fn backward(cpu: &Cpu, problem: &Problem, arguments: &BackwardPtrs, workspace: *mut f32) {
    with_types(problem, Launch { cpu, problem, arguments, workspace });
}

impl Typed for Launch<'_, ForwardPtrs> {
    fn call<T: Element, P: Element>(self) {
        match self.problem.op() {
            Op::Dyt => self.forward::<T, P, Tanh>(),
            Op::Derf => self.forward::<T, P, Erf>(),
            Op::LayerNorm | Op::RmsNorm => {}
        }
    }
}

impl Typed for Launch<'_, BackwardPtrs> {
    fn call<T: Element, P: Element>(self) {
        match self.problem.op() {
            Op::Dyt => self.backward::<T, P, Tanh>(),
            Op::Derf => self.backward::<T, P, Erf>(),
            Op::LayerNorm | Op::RmsNorm => {}
        }
    }
}

/// The value of a scalar argument; 0 where the op has none.
fn scalar(p: *const f32) -> f32 {
    // SAFETY: a checked argument is null or one valid f32.
    if p.is_null() { 0.0 } else { unsafe { *p } }
}

impl Launch<'_, ForwardPtrs> {
    fn forward<T: Element, P: Element, C: Curve>(self) {
        let Self { cpu, problem, arguments: &ForwardPtrs { x, y, gamma, beta, alpha, shift, .. }, .. } = self;
        let threads = parallel::threads(problem.elements());
        let grid = plan::pointwise_forward(problem, threads);
        let stream = x != y.cast_const() && cpu.streams(2 * problem.elements() * size_of::<T>());
        let whole = Shared(forward::Forward::<T, P, C> {
            x: x.cast(),
            y: y.cast(),
            gamma: gamma.cast(),
            beta: beta.cast(),
            alpha: scalar(alpha),
            shift: scalar(shift),
            row_stride: problem.row_stride(),
            inner: problem.inner(),
            stream,
            tile: plan::Tile::EMPTY,
            curve: PhantomData,
        });
        parallel::for_each(grid.tiles(), threads, |task| {
            cpu.isa.run(forward::Forward { tile: grid.tile(task).0, ..whole.get() });
        });
    }
}

impl Launch<'_, BackwardPtrs> {
    fn backward<T: Element, P: Element, C: Curve>(self) {
        let Self { cpu, problem, arguments, workspace } = self;
        let &BackwardPtrs { dy, x, dx, gamma, alpha, shift, .. } = arguments;
        let threads = parallel::threads(problem.elements());
        let grid = plan::pointwise_backward(problem, threads);
        let partials = fold::partials(workspace, &grid, problem);
        let stream = dx.cast_const() != dy && cpu.streams(3 * problem.elements() * size_of::<T>());
        let whole = Shared(backward::Backward::<T, P, C> {
            dy: dy.cast(),
            x: x.cast(),
            dx: dx.cast(),
            gamma: gamma.cast(),
            alpha: scalar(alpha),
            shift: scalar(shift),
            row_stride: problem.row_stride(),
            inner: problem.inner(),
            stream,
            tile: plan::Tile::EMPTY,
            sums: fold::Slots::NONE,
            curve: PhantomData,
        });
        parallel::for_each(grid.tiles(), threads, |task| {
            let (tile, chunk) = grid.tile(task);
            let sums = partials.chunk(chunk, arguments);
            cpu.isa.run(backward::Backward { tile, sums, ..whole.get() });
        });
        // SAFETY: every chunk has just been written; the outputs are checked.
        unsafe { partials.finish::<P>(cpu.isa, arguments, problem.accumulate()) };
    }
}
