//! The second stage of every backward.

use super::super::compose::{Body, Kernel, Slot};
use super::parts::Parts;
use super::{Arguments, Dispatch, Layout, Limits, Params, flag, steps};
use crate::{Argument, DType, Problem, Result};

/// Columns of a workgroup.
const COLUMNS: u64 = 32;

/// Folds `chunks` records, in several dispatches if they are too large to be bound at once.
pub(super) fn push(
    problem: &Problem,
    at: &Arguments,
    limits: &Limits,
    layout: &Layout,
    chunks: u64,
    dispatches: &mut Vec<Dispatch>,
) -> Result<()> {
    let flags = flag::gradients(at) & !flag::DX;
    let columns = flags & (flag::DGAMMA | flag::DBETA) != 0;
    let scalars = flags & (flag::DALPHA | flag::DSHIFT) != 0;
    let column_workgroups = if columns { (problem.cols() as u64).div_ceil(COLUMNS) } else { 0 };
    let workgroups = column_workgroups + u64::from(scalars);
    if workgroups == 0 {
        return Ok(());
    }
    let kernel = Kernel {
        body: Body::Fold,
        dtype: DType::F32,
        wide: false,
        in_place: false,
        shared: at.folds_within_one_buffer,
    };
    let most = (limits.budget() / (layout.record() * 4).max(1)).max(1);
    let params = |chunks: u64| {
        layout.params(Params {
            cols: problem.cols() as u32,
            inner: problem.inner() as u32,
            slabs: layout.slab as u32,
            team: layout.scalars as u32,
            chunks: chunks as u32,
            ..Params::default()
        })
    };
    let most = most.min(most_counted(limits, most.min(chunks), |chunks| steps::of(kernel, &params(chunks))));
    let mut first = 0;
    loop {
        let count = most.min(chunks - first);
        let accumulate = if problem.accumulate() || first > 0 { flag::ACCUMULATE } else { 0 };
        let params = Params { flags: flags | accumulate, ..params(count) };
        let mut parts = Parts::new(at, limits, params);
        let cols = problem.cols() as u64;
        parts.bind(Slot::Sums, Argument::Workspace, 4, first * layout.record(), count * layout.record())?;
        parts.bind(Slot::Dgamma, Argument::Dgamma, 4, 0, cols)?;
        parts.bind(Slot::Dbeta, Argument::Dbeta, 4, 0, cols)?;
        parts.bind(Slot::Dalpha, Argument::Dalpha, 4, 0, 1)?;
        parts.bind(Slot::Dshift, Argument::Dshift, 4, 0, 1)?;
        dispatches.push(parts.dispatch(kernel, workgroups));
        first += count;
        if first >= chunks {
            return Ok(());
        }
    }
}

/// Records that a lane may add up, of `chunks`: fewer where a driver counts the steps of loops. At least 1.
fn most_counted(limits: &Limits, chunks: u64, counted: impl Fn(u64) -> u64) -> u64 {
    let most = limits.most_steps();
    let mut records = chunks.max(1);
    while records > 1 && counted(records) > most {
        records = records.div_ceil(2);
    }
    records
}
