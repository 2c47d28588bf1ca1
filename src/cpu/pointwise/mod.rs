//! DyT and Derf: each element by itself, with sums over rows in the backward.

mod backward;
mod forward;

use core::marker::PhantomData;

use crate::cpu::curve::Curve;
use crate::cpu::launch::Launch;
use crate::cpu::param::Param;
use crate::cpu::stored::Stored;
use crate::cpu::threads::Shared;
use crate::cpu::{fold, plan};
use crate::ops::{BackwardPtrs, ForwardPtrs};

/// The value of a scalar argument; 0 where the op has none.
fn scalar(p: *const f32) -> f32 {
    // SAFETY: a checked argument is null or one valid f32.
    if p.is_null() { 0.0 } else { unsafe { *p } }
}

/// The forward of one op and pair of storage types.
pub(super) fn forward<T: Stored, P: Stored, C: Curve>(launch: Launch<'_, ForwardPtrs>) {
    let Launch { cpu, problem, arguments: &ForwardPtrs { x, y, gamma, beta, alpha, shift, .. }, .. } = launch;
    let team = cpu.team(problem.elements());
    let grid = plan::pointwise_forward(problem, team.threads());
    let stream = x != y.cast_const() && cpu.streams(2 * problem.elements() * size_of::<T>());
    let whole = Shared(forward::Forward::<T, P, C> {
        x: x.cast(),
        y: y.cast(),
        gamma: Param::gamma(gamma),
        beta: Param::beta(beta),
        alpha: scalar(alpha),
        shift: scalar(shift),
        row_stride: problem.row_stride(),
        inner: problem.inner(),
        stream,
        tile: plan::Tile::EMPTY,
        curve: PhantomData,
    });
    team.for_each(grid.tiles(), |task| {
        cpu.isa.run(forward::Forward { tile: grid.tile(task).0, ..whole.get() });
    });
}

/// The backward of one op and pair of storage types.
pub(super) fn backward<T: Stored, P: Stored, C: Curve>(launch: Launch<'_, BackwardPtrs>) {
    let Launch { cpu, problem, arguments, workspace } = launch;
    let &BackwardPtrs { dy, x, dx, gamma, alpha, shift, .. } = arguments;
    let team = cpu.team(problem.elements());
    let grid = plan::pointwise_backward(problem, team.threads());
    let partials = fold::partials(workspace, &grid, problem, team);
    let stream = dx.cast_const() != dy && cpu.streams(3 * problem.elements() * size_of::<T>());
    let whole = Shared(backward::Backward::<T, P, C> {
        dy: dy.cast(),
        x: x.cast(),
        dx: dx.cast(),
        gamma: Param::gamma(gamma),
        alpha: scalar(alpha),
        shift: scalar(shift),
        row_stride: problem.row_stride(),
        inner: problem.inner(),
        stream,
        tile: plan::Tile::EMPTY,
        sums: fold::Slots::NONE,
        curve: PhantomData,
    });
    team.for_each(grid.tiles(), |task| {
        let (tile, chunk) = grid.tile(task);
        let sums = partials.chunk(chunk, arguments);
        cpu.isa.run(backward::Backward { tile, sums, ..whole.get() });
    });
    // SAFETY: every chunk has just been written; the outputs are checked.
    unsafe { partials.finish::<P>(cpu.isa, arguments, problem.accumulate()) };
}
