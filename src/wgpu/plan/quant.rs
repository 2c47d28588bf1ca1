//! A forward that quantises y: a workgroup for each row, or for a tile of positions of channels-first data.

use super::super::compose::{Body, Form, Kernel};
use super::portion::Portion;
use super::rows::Rows;
use super::stage::Stage;
use super::tiling::Tiling;
use super::{Arguments, Dispatch, Limits, Slot, complete, flag, norm};
use crate::{Argument, Pass, Problem, Result};

/// The dispatches, to be recorded one behind the other.
pub(super) fn forward(problem: &Problem, at: &Arguments, limits: &Limits) -> Result<Vec<Dispatch>> {
    let first = problem.inner() > 1;
    let form = if first { Form::First } else { Form::Long };
    // The family makes no difference to what the parameters are.
    let tiling = Tiling::Norm { center: false, tiling: norm::Tiling::whole_workgroups(form) };
    let rows = Rows::of(problem);
    let stage = Stage { problem, at, limits, rows, tiling, wide: false, pass: Pass::Forward };
    let body = Body::Quantised { op: Tiling::quantised(problem.op()), first };
    let kernel = Kernel { body, dtype: problem.dtype(), wide: false, in_place: false, shared: true };
    let inner = problem.inner() as u64;
    let mut dispatches = Vec::new();
    for portion in Portion::of(problem).cut(stage.most(0)) {
        let mut parts = stage.bound(flag::forward(problem, at), portion, &[(Slot::X, Argument::X)])?;
        let (begin, len) = rows.range(Argument::Y, portion.first, portion.len());
        parts.bind(Slot::Out, Argument::Y, 1, begin, len)?;
        parts.bind(Slot::Scale, Argument::Scale, 4, 0, 1)?;
        parts.bind(Slot::Scale, Argument::Scales, 4, portion.first * inner, portion.len() * inner)?;
        dispatches.push(parts.dispatch(kernel, tiling.workgroups(problem, Pass::Forward, portion)));
    }
    complete(dispatches, limits)
}
