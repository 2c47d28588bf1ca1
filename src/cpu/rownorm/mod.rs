//! LayerNorm and RMSNorm: each row by itself, with sums over rows in the backward.

mod backward;
mod columns;
mod exact;
mod forward;
mod groups;
mod lines;
mod stats;

use crate::cpu::launch::Launch;
use crate::cpu::param::Param;
use crate::cpu::stored::Stored;
use crate::cpu::threads::Shared;
use crate::cpu::{fold, plan};
use crate::ops::{BackwardPtrs, ForwardPtrs};

/// The forward of one op and pair of storage types.
pub(super) fn forward<T: Stored, P: Stored, const CENTER: bool>(launch: Launch<'_, ForwardPtrs>) {
    let Launch { cpu, problem, arguments: &ForwardPtrs { x, y, gamma, beta, mean, rstd, .. }, .. } = launch;
    let team = cpu.team(problem.elements());
    let grid = plan::norm_forward(problem, team.threads());
    let whole = Shared(forward::Forward::<T, P, CENTER> {
        x: x.cast(),
        y: y.cast(),
        gamma: Param::gamma(gamma),
        beta: Param::beta(beta),
        mean,
        rstd,
        norm: stats::Norm::new(problem),
        cols: problem.cols(),
        row_stride: problem.row_stride(),
        inner: problem.inner(),
        stream: problem.inner() == 1
            && x != y.cast_const()
            && cpu.streams(2 * problem.elements() * size_of::<T>()),
        lines: plan::Range::EMPTY,
    });
    team.for_each(grid.tiles(), |task| {
        cpu.isa.run(forward::Forward { lines: grid.tile(task).0.rows, ..whole.get() });
    });
}

/// The backward of one op and pair of storage types.
pub(super) fn backward<T: Stored, P: Stored, const CENTER: bool>(launch: Launch<'_, BackwardPtrs>) {
    let Launch { cpu, problem, arguments, workspace } = launch;
    let &BackwardPtrs { dy, x, dx, gamma, mean, rstd, .. } = arguments;
    let team = cpu.team(problem.elements());
    let grid = plan::norm_backward(problem);
    let partials = fold::partials(workspace, &grid, problem, team);
    let whole = Shared(backward::Backward::<T, P, CENTER> {
        dy: dy.cast(),
        x: x.cast(),
        dx: dx.cast(),
        gamma: Param::gamma(gamma),
        mean,
        rstd,
        norm: stats::Norm::new(problem),
        cols: problem.cols(),
        row_stride: problem.row_stride(),
        inner: problem.inner(),
        stream: dx.cast_const() != dy && cpu.streams(3 * problem.elements() * size_of::<T>()),
        lines: plan::Range::EMPTY,
        sums: fold::Slots::NONE,
    });
    team.for_each(grid.tiles(), |task| {
        let (tile, chunk) = grid.tile(task);
        let sums = partials.chunk(chunk, arguments);
        cpu.isa.run(backward::Backward { lines: tile.rows, sums, ..whole.get() });
    });
    // SAFETY: every chunk has just been written; the outputs are checked.
    unsafe { partials.finish::<P>(cpu.isa, arguments, problem.accumulate()) };
}
