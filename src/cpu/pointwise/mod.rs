//! DyT and Derf: each element by itself, with sums over rows in the backward.

mod backward;
mod exact;
mod forward;
mod quant;
mod runs;

pub(super) use quant::Values;

use core::marker::PhantomData;

use half::f16;

use crate::cpu::fold::Partials;
use crate::cpu::lanes::quiet;
use crate::cpu::launch::Launch;
use crate::cpu::math::Curve;
use crate::cpu::param::Param;
use crate::cpu::plan;
use crate::cpu::residual::Residual;
use crate::cpu::stage::Output;
use crate::cpu::stored::Stored;
use crate::cpu::tensor::Tensor;
use crate::cpu::threads::Shared;
use crate::ops::{BackwardPtrs, ForwardPtrs};

/// The value of a scalar argument, [`quiet`]; 0 where the op has none.
fn scalar(p: *const f32) -> f32 {
    // SAFETY: a checked argument is null or one valid f32.
    if p.is_null() { 0.0 } else { quiet(unsafe { *p }) }
}

/// The arguments of a forward.
#[derive(Clone, Copy, Debug)]
struct Forward<T, C> {
    /// x, or its sum with the residual.
    x: Tensor<T>,
    residual: Option<Residual<T>>,
    y: Tensor<T>,
    gamma: Param,
    beta: Param,
    alpha: f32,
    shift: f32,
    /// Positions of S of channels-first data; 1 where parameters run along the row.
    inner: usize,
    /// Whether y goes past the cache.
    stream: bool,
    curve: PhantomData<C>,
}

/// The arguments of a backward.
#[derive(Clone, Copy, Debug)]
struct Backward<T, C> {
    dy: Tensor<T>,
    x: Tensor<T>,
    dx: Output<T>,
    /// What joins dx.
    dsum: Option<Tensor<T>>,
    gamma: Param,
    alpha: f32,
    shift: f32,
    inner: usize,
    curve: PhantomData<C>,
}

impl<T, C> Forward<T, C> {
    /// Takes the parameters of a group of rows.
    #[cold]
    fn take_group(&mut self, group: usize, cols: usize) {
        [self.gamma, self.beta] = [self.gamma, self.beta].map(|param| param.further(group * cols));
    }
}

impl<T, C> Backward<T, C> {
    /// Takes the parameter of a group of rows.
    #[cold]
    fn take_group(&mut self, group: usize, cols: usize) {
        self.gamma = self.gamma.further(group * cols);
    }
}

/// The forward of one op and type.
pub(super) fn forward<T: Stored, C: Curve>(launch: Launch<'_, ForwardPtrs>) {
    let Launch { cpu, problem, arguments: wanted, .. } = launch;
    let &ForwardPtrs { y, gamma, beta, alpha, shift, .. } = wanted;
    let memory = cpu.streams(wanted.tensors() * problem.elements() * size_of::<T>());
    let team = cpu.team(problem.elements());
    let grid = plan::pointwise_forward(problem, team.threads());
    let arguments = Shared(Forward::<T, C> {
        // SAFETY: the arguments are checked; tasks work on disjoint tiles.
        x: unsafe { launch.like_x(wanted.input().cast_mut()) },
        residual: Residual::of(&launch, memory),
        // SAFETY: as above.
        y: unsafe { launch.like_y(y) },
        gamma: Param::gamma(gamma, problem),
        beta: Param::beta(beta, problem),
        alpha: scalar(alpha),
        shift: scalar(shift),
        inner: problem.inner(),
        stream: memory && !wanted.is_in_place(),
        curve: PhantomData,
    });
    let usual = C::is_usual(scalar(alpha));
    team.for_each(grid.tiles(), |task| {
        let (mut arguments, tile) = (arguments.get(), grid.tile(task));
        if tile.group > 0 {
            arguments.take_group(tile.group, problem.cols());
        }
        if !usual {
            // SAFETY: parameters have a value a column.
            unsafe { exact::forward(&arguments, tile) }
        } else if arguments.inner > 1 {
            cpu.isa.run(runs::ForwardTile { arguments, tile });
        } else {
            cpu.isa.run(forward::ForwardTile { arguments, tile });
        }
    });
}

/// The backward of one op and type.
pub(super) fn backward<T: Stored, C: Curve>(launch: Launch<'_, BackwardPtrs>) {
    let Launch { cpu, problem, arguments: wanted, .. } = launch;
    let &BackwardPtrs { dy, x, dsum, dx, gamma, alpha, shift, .. } = wanted;
    let team = cpu.team(problem.elements());
    let grid = plan::pointwise_backward(problem, team.threads());
    let (alpha, inner, usual) = (scalar(alpha), problem.inner(), C::is_usual(scalar(alpha)));
    // Runs are not streamed: a boundary within one would make the order of its sums depend on the address.
    let memory = cpu.streams(wanted.tensors() * problem.elements() * size_of::<T>());
    let stream = inner == 1 && memory && !wanted.is_in_place();
    let gamma = Param::gamma(gamma, problem);
    let arguments = Shared(Backward::<T, C> {
        // SAFETY: the arguments are checked; tasks work on disjoint tiles.
        dy: unsafe { launch.like_y(dy.cast_mut()) },
        // SAFETY: as above.
        x: unsafe { launch.like_x(x.cast_mut()) },
        // SAFETY: as above.
        dx: Output::new(unsafe { launch.like_x(dx) }, !dx.is_null(), stream),
        // SAFETY: as above.
        dsum: (!dsum.is_null()).then(|| unsafe { launch.like_x(dsum.cast_mut()) }),
        gamma,
        alpha,
        shift: scalar(shift),
        inner,
        curve: PhantomData,
    });
    let plain = inner > 1 || !usual;
    let sign = if usual { C::sign_of(alpha) } else { 1.0 };
    let partials = Partials::new(&launch, grid.group_parts(), T::SPLIT && !plain, sign, team);
    team.for_each(grid.tiles(), |task| {
        let (mut arguments, tile) = (arguments.get(), grid.tile(task));
        let sums = partials.chunk(tile.chunk);
        if tile.group > 0 {
            arguments.take_group(tile.group, problem.cols());
        }
        if !usual {
            // SAFETY: gamma has a value a column.
            unsafe { exact::backward(&arguments, tile, &sums) }
        } else if inner > 1 {
            cpu.isa.run(runs::BackwardTile { arguments, tile, sums });
        } else {
            cpu.isa.run(backward::BackwardTile { arguments, tile, sums });
        }
    });
    let accumulate = problem.accumulate();
    // SAFETY: every chunk has just been written; the outputs are checked.
    unsafe {
        if plain {
            // Of a type whose lanes stand in the order of memory.
            partials.finish::<f16>(cpu.isa, None, gamma, sign, wanted, accumulate);
        } else {
            partials.finish::<T>(cpu.isa, None, gamma, sign, wanted, accumulate);
        }
    }
}
