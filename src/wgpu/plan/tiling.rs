//! How workgroups lie over the tensors, for both families of ops, and where they leave partial sums.

use super::super::compose::{AHEAD, Body, Curve, Form, Kernel, Quantised};
use super::portion::Portion;
use super::{Limits, Params, geometry, norm, pointwise, steps};
use crate::{Op, Pass, Problem};

/// Which kernels an op has.
#[derive(Clone, Copy, Debug)]
enum Family {
    Pointwise(Curve),
    Norm { center: bool },
}

impl Family {
    const fn of(op: Op) -> Self {
        match op {
            Op::Dyt => Self::Pointwise(Curve::Dyt),
            Op::Derf => Self::Pointwise(Curve::Derf),
            Op::LayerNorm => Self::Norm { center: true },
            Op::RmsNorm => Self::Norm { center: false },
        }
    }
}

/// How the first stage goes over rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tiling {
    Pointwise(Curve, pointwise::Tiling),
    Norm { center: bool, tiling: norm::Tiling },
}

impl Tiling {
    /// What a kernel with a quantised y computes.
    pub(super) const fn quantised(op: Op) -> Quantised {
        match Family::of(op) {
            Family::Pointwise(curve) => Quantised::Pointwise(curve),
            Family::Norm { center } => Quantised::Norm { center },
        }
    }

    pub(super) fn forward(problem: &Problem, wide: bool) -> Self {
        match Family::of(problem.op()) {
            Family::Pointwise(curve) => Self::Pointwise(curve, pointwise::Tiling::forward(problem, wide)),
            Family::Norm { center } => Self::Norm { center, tiling: norm::Tiling::forward(problem) },
        }
    }

    pub(super) fn backward(problem: &Problem, wide: bool, limits: &Limits) -> Self {
        let bytes = limits.chunk_bytes();
        match Family::of(problem.op()) {
            Family::Pointwise(curve) => {
                Self::Pointwise(curve, pointwise::Tiling::backward(problem, wide, bytes))
            }
            Family::Norm { center } => {
                let tiling = Self::Norm { center, tiling: norm::Tiling::backward(problem, bytes) };
                tiling.within(problem, wide, limits)
            }
        }
    }

    /// Fewer rows one after the other, where a lane would go round its loops more often than the driver lets it.
    fn within(self, problem: &Problem, wide: bool, limits: &Limits) -> Self {
        let Self::Norm { center, tiling } = self else { return self };
        let body = self.body(Pass::Backward, limits);
        // The variant that takes most steps: what is added up must not depend on where arguments lie.
        let kernel = Kernel { body, dtype: problem.dtype(), wide, in_place: false, shared: true };
        let counted = |steps: u64| {
            let params = super::part_params(problem, &self, problem.total_rows() as u64);
            steps::of(kernel.normalized(), &Params { steps: steps as u32, ..params })
        };
        let most = limits.most_steps();
        if counted(tiling.steps) <= most {
            return self;
        }
        // Each step takes as many; the first has what comes once.
        let each = counted(2) - counted(1);
        let steps = most.saturating_sub(counted(0)) / each.max(1);
        Self::Norm { center, tiling: tiling.with_steps(problem, steps.max(1)) }
    }

    /// Whole rows of a chunk; 0 where a row has several chunks.
    pub(super) fn chunk_rows(&self, problem: &Problem) -> u64 {
        match self {
            Self::Pointwise(_, tiling) => tiling.chunk_rows(),
            Self::Norm { tiling, .. } => tiling.chunk_rows(problem),
        }
    }

    /// Chunks of so many rows that share gamma and beta, the last perhaps shorter.
    pub(super) fn chunks_of(&self, problem: &Problem, rows: u64) -> u64 {
        match self {
            Self::Pointwise(_, tiling) => rows.div_ceil(tiling.chunk_rows()),
            Self::Norm { tiling, .. } => tiling.chunks_of(problem, rows),
        }
    }

    /// Chunks of a part of the rows.
    pub(super) fn chunks(&self, problem: &Problem, portion: Portion) -> u64 {
        portion.groups * self.chunks_of(problem, portion.group)
    }

    /// Chunks of the rows before one at which a chunk begins.
    pub(super) fn chunks_before(&self, problem: &Problem, row: u64) -> u64 {
        let group = problem.param_rows() as u64;
        row / group * self.chunks_of(problem, group) + self.chunks_of(problem, row % group)
    }

    /// Whether rows of a workgroup may have different gammas: nothing is summed over rows, and each lane has one row.
    pub(super) const fn crosses_groups(&self, pass: Pass) -> bool {
        let steps = match self {
            Self::Pointwise(_, tiling) => tiling.steps,
            Self::Norm { tiling, .. } => tiling.steps,
        };
        match pass {
            Pass::Forward => steps == 1,
            Pass::Backward => false,
        }
    }

    pub(super) fn workgroups(&self, problem: &Problem, pass: Pass, portion: Portion) -> u64 {
        let of = |rows: u64| match (self, pass) {
            (Self::Pointwise(_, tiling), _) => tiling.slabs * rows.div_ceil(tiling.chunk_rows()),
            (Self::Norm { tiling, .. }, Pass::Forward) => tiling.workgroups(problem, rows),
            (Self::Norm { tiling, .. }, Pass::Backward) => tiling.chunks_of(problem, rows),
        };
        if self.crosses_groups(pass) { of(portion.len()) } else { portion.groups * of(portion.group) }
    }

    pub(super) fn layout(&self, problem: &Problem) -> Layout {
        match self {
            Self::Pointwise(_, tiling) => {
                let slab = if problem.inner() == 1 { 0 } else { tiling.slab() };
                Layout { columns: tiling.pieces(problem), scalars: tiling.slabs, slab }
            }
            Self::Norm { .. } => Layout { columns: problem.cols() as u64, scalars: 0, slab: 0 },
        }
    }

    pub(super) fn params(&self) -> Params {
        let (team, steps, slabs) = match self {
            Self::Pointwise(_, tiling) => (tiling.team, tiling.steps, tiling.slabs),
            Self::Norm { tiling, .. } => (tiling.team, tiling.steps, tiling.slabs),
        };
        Params { team: team as u32, steps: steps as u32, slabs: slabs as u32, ..Params::default() }
    }

    pub(super) fn body(&self, pass: Pass, limits: &Limits) -> Body {
        match *self {
            Self::Pointwise(curve, tiling) => {
                let ahead = match pass {
                    Pass::Forward => tiling.steps >= u64::from(AHEAD),
                    Pass::Backward => false,
                };
                Body::Pointwise { curve, pass, ahead }
            }
            Self::Norm { center, tiling } => {
                // Only where the lanes of a row are a whole workgroup do subgroups not cross rows.
                let whole = match tiling.form {
                    Form::Kept | Form::Long => tiling.team == geometry::LANES,
                    Form::First => false,
                };
                Body::Norm { center, pass, form: tiling.form, subgroups: limits.subgroups && whole }
            }
        }
    }
}

/// Where the partial sums of a chunk of rows are: a record of the workspace, with those of dgamma first, then those of
/// dbeta, dalpha and dshift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Partial sums of dgamma, and as many of dbeta: one for each column, and one more wherever a slab ends inside of one.
    columns: u64,
    /// Partial sums of dalpha, and as many of dshift; 0 for the norms.
    pub(super) scalars: u64,
    /// Positions of a slab at whose ends columns are cut; 0 if none is.
    pub(super) slab: u64,
}

impl Layout {
    /// Values of a record.
    pub(super) const fn record(&self) -> u64 {
        2 * (self.columns + self.scalars)
    }

    /// `params` with the places in a record.
    pub(super) const fn params(&self, params: Params) -> Params {
        let (columns, scalars) = (self.columns as u32, self.scalars as u32);
        Params {
            record: self.record() as u32,
            dbeta_at: columns,
            dalpha_at: 2 * columns,
            dshift_at: 2 * columns + scalars,
            ..params
        }
    }
}
