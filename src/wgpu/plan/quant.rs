//! A forward that quantises y: a workgroup for each row, or for a tile of positions of channels-first data.

use super::super::compose::{Body, Form, Kernel};
use super::parts::Parts;
use super::tiling::Tiling;
use super::{
    Arguments, Dispatch, Limits, Params, Slot, bind_columns, bind_statistics, complete, flag, most_rows,
    norm, part_params,
};
use crate::{Argument, Problem, Result};

/// The dispatches, to be recorded one behind the other.
pub(super) fn forward(problem: &Problem, at: &Arguments, limits: &Limits) -> Result<Vec<Dispatch>> {
    let first_form = problem.inner() > 1;
    let form = if first_form { Form::First } else { Form::Long };
    let tiling = norm::Tiling::whole_workgroups(form);
    let op = Tiling::quantised(problem.op());
    let body = Body::Quantised { op, first: first_form };
    let kernel = Kernel { body, dtype: problem.dtype(), wide: false, in_place: false, shared: true };
    let (rows, inner) = (problem.rows() as u64, problem.inner() as u64);
    let most = most_rows(problem, at, limits, 0, 0);
    let mut dispatches = Vec::new();
    let mut first = 0;
    while first < rows {
        let count = most.min(rows - first);
        // The family makes no difference to what the parameters are.
        let tiling = Tiling::Norm { center: false, tiling };
        let params = Params { flags: flag::forward(problem, at), ..part_params(problem, &tiling, count) };
        let mut parts = Parts::new(at, limits, params);
        let stride = problem.row_stride() as u64;
        let len = (count - 1) * stride + problem.row_len() as u64;
        parts.bind(Slot::X, Argument::X, problem.dtype().size() as u64, first * stride, len)?;
        parts.bind(Slot::Out, Argument::Y, 1, first * stride, len)?;
        bind_columns(&mut parts, problem)?;
        bind_statistics(&mut parts, problem, first, count)?;
        parts.bind(Slot::Scale, Argument::Scale, 4, 0, 1)?;
        parts.bind(Slot::Scale, Argument::Scales, 4, first * inner, count * inner)?;
        let Tiling::Norm { tiling, .. } = tiling else { continue };
        dispatches.push(parts.dispatch(kernel, tiling.workgroups(problem, count)));
        first += count;
    }
    complete(dispatches, limits)
}
