//! LayerNorm and RMSNorm: each row by itself, with sums over rows in the backward.

mod backward;
mod exact;
mod forward;
mod lone;
mod projections;
mod quant;
mod runs;
mod stats;

pub(super) use quant::Values;

use crate::cpu::fold::Partials;
use crate::cpu::launch::Launch;
use crate::cpu::param::Param;
use crate::cpu::plan::{self, Tile};
use crate::cpu::residual::Residual;
use crate::cpu::stage::Output;
use crate::cpu::stored::Stored;
use crate::cpu::threads::Shared;
use crate::ops::{BackwardPtrs, ForwardPtrs};

/// The forward of one op and type.
pub(super) fn forward<T: Stored, const CENTER: bool>(launch: Launch<'_, ForwardPtrs>) {
    let Launch { cpu, problem, arguments: wanted, .. } = launch;
    let &ForwardPtrs { y, gamma, beta, mean, rstd, .. } = wanted;
    let (team, inner) = (cpu.team(problem.elements()), problem.inner());
    let grid = plan::norm_forward(problem, team.threads());
    let memory = inner == 1 && cpu.streams(wanted.tensors() * problem.elements() * size_of::<T>());
    let stream = memory && !wanted.is_in_place();
    let lone = problem.total_rows() == 1 && !stream;
    let arguments = Shared(forward::Arguments::<T> {
        // SAFETY: the arguments are checked; tasks work on disjoint rows.
        x: unsafe { launch.like_x(wanted.input().cast_mut()) },
        residual: Residual::of(&launch, memory).map(|residual| residual.of_whole_rows(problem.cols())),
        // SAFETY: as above.
        y: unsafe { launch.like_y(y) },
        gamma: Param::gamma(gamma, problem),
        beta: Param::beta(beta, problem),
        mean,
        rstd,
        norm: stats::Norm::new(problem),
        cols: problem.cols(),
    });
    team.for_each(grid.tiles(), |task| {
        let (mut arguments, Tile { rows, group, .. }) = (arguments.get(), grid.tile(task));
        if group > 0 {
            arguments.take_group(group);
        }
        if inner > 1 {
            cpu.isa.run(runs::Forward::<T, CENTER> { arguments, inner, tiles: rows });
        } else if lone {
            cpu.isa.run(lone::Forward::<T, CENTER>(arguments));
        } else {
            cpu.isa.run(forward::Forward::<T, CENTER> { arguments, stream, rows });
        }
    });
}

/// The backward of one op and type.
pub(super) fn backward<T: Stored, const CENTER: bool>(launch: Launch<'_, BackwardPtrs>) {
    let Launch { cpu, problem, arguments: wanted, .. } = launch;
    let &BackwardPtrs { dy, x, dsum, dx, gamma, mean, rstd, .. } = wanted;
    let (team, inner) = (cpu.team(problem.elements()), problem.inner());
    let grid = plan::norm_backward(problem);
    let memory = cpu.streams(wanted.tensors() * problem.elements() * size_of::<T>());
    let stream = inner == 1 && memory && !wanted.is_in_place();
    let lone = problem.total_rows() == 1 && !stream && dsum.is_null();
    let gamma = Param::gamma(gamma, problem);
    // SAFETY: the arguments are checked; tasks work on disjoint rows.
    let dx = Output::new(unsafe { launch.like_x::<T>(dx) }, !dx.is_null(), stream);
    let arguments = Shared(backward::Arguments::<T> {
        // SAFETY: as above.
        dy: unsafe { launch.like_y(dy.cast_mut()) },
        // SAFETY: as above.
        x: unsafe { launch.like_x(x.cast_mut()) },
        dx,
        // SAFETY: as above.
        dsum: (!dsum.is_null()).then(|| unsafe { launch.like_x(dsum.cast_mut()) }),
        gamma,
        mean,
        rstd,
        norm: stats::Norm::new(problem),
        cols: problem.cols(),
    });
    let partials = Partials::new(&launch, grid.group_parts(), T::SPLIT && inner == 1, 1.0, team);
    let heads = !partials.is_direct();
    team.for_each(grid.tiles(), |task| {
        let (mut arguments, Tile { rows, chunk, group, .. }) = (arguments.get(), grid.tile(task));
        let sums = partials.chunk(chunk);
        if group > 0 {
            arguments.take_group(group);
        }
        if inner > 1 {
            cpu.isa.run(runs::Backward::<T, CENTER> { arguments, inner, tiles: rows, sums });
        } else if lone {
            cpu.isa.run(lone::Backward::<T, CENTER> { arguments, heads, sums });
        } else {
            cpu.isa.run(backward::Backward::<T, CENTER> { arguments, stream, heads, rows, sums });
        }
    });
    // SAFETY: every chunk has just been written; the outputs are checked.
    unsafe {
        let output = if inner > 1 || !heads { None } else { Some(dx) };
        partials.finish::<T>(cpu.isa, output, gamma, 1.0, wanted, problem.accumulate());
    }
}
