//! The second stage of every backward.

use super::super::compose::{Body, Kernel, Slot};
use super::parts::Parts;
use super::portion::{Most, Portion};
use super::{Arguments, Dispatch, Layout, Limits, Params, flag, steps};
use crate::{Argument, DType, Problem, Result};

/// Columns of a workgroup.
const COLUMNS: u64 = 32;

/// Folds `chunks` records, in several dispatches if they are too large to be bound at once. The chunks of each group give a
/// row of dgamma and dbeta.
pub(super) fn push(
    problem: &Problem,
    at: &Arguments,
    limits: &Limits,
    layout: &Layout,
    chunks: Portion,
    dispatches: &mut Vec<Dispatch>,
) -> Result<()> {
    let fold = Fold { problem, at, limits, layout };
    let flags = flag::gradients(at) & !flag::DX;
    if chunks.len() > 0 {
        for portion in chunks.cut(fold.most(chunks)) {
            dispatches.extend(fold.dispatch(flags, portion, chunks.group)?);
        }
    } else {
        // No rows: sums of nothing.
        dispatches.extend(fold.dispatch(flags, chunks, 1)?);
    }
    Ok(())
}

struct Fold<'a> {
    problem: &'a Problem,
    at: &'a Arguments,
    limits: &'a Limits,
    layout: &'a Layout,
}

impl Fold<'_> {
    const fn kernel(&self) -> Kernel {
        let shared = self.at.folds_within_one_buffer;
        Kernel { body: Body::Fold, dtype: DType::F32, wide: false, in_place: false, shared }
    }

    fn params(&self, groups: u64, chunks: u64) -> Params {
        self.layout.params(Params {
            cols: self.problem.cols() as u32,
            inner: self.problem.inner() as u32,
            slabs: self.layout.slab as u32,
            team: self.layout.scalars as u32,
            chunks: chunks as u32,
            groups: groups as u32,
            ..Params::default()
        })
    }

    /// Records that can be bound at once, and that a lane may add up.
    fn most(&self, chunks: Portion) -> Most {
        let budget = self.limits.budget();
        let most = (budget / (self.layout.record() * 4).max(1)).max(1);
        let of_columns = budget / (4 * self.problem.cols() as u64);
        let groups = (most / chunks.group).min(of_columns).min(chunks.groups);
        let part = most.min(chunks.group);
        Most {
            groups: self.counted(groups, 0, |groups| self.params(groups, chunks.group)),
            part: self.counted(part, 1, |chunks| self.params(1, chunks)),
        }
    }

    /// So many, or fewer where a driver counts the steps of loops; not below `least`.
    fn counted(&self, most: u64, least: u64, params: impl Fn(u64) -> Params) -> u64 {
        let allowed = self.limits.most_steps();
        let mut n = most;
        while n > least && steps::of(self.kernel(), &params(n)) > allowed {
            // From 1 to 0, too.
            n = if n == 1 { 0 } else { n.div_ceil(2) };
        }
        n
    }

    /// Adds up a portion of the chunks, of which `group` are a row of dgamma and dbeta; nothing where no gradient is asked for.
    fn dispatch(&self, flags: u32, portion: Portion, group: u64) -> Result<Option<Dispatch>> {
        let (problem, Portion { first, groups, .. }) = (self.problem, portion);
        let columns = flags & (flag::DGAMMA | flag::DBETA) != 0;
        let scalars = flags & (flag::DALPHA | flag::DSHIFT) != 0;
        let cols = problem.cols() as u64;
        let workgroups = if columns { groups * cols.div_ceil(COLUMNS) } else { 0 } + u64::from(scalars);
        if workgroups == 0 {
            return Ok(None);
        }
        let adds = |begun: bool, bit| if problem.accumulate() || begun { bit } else { 0 };
        let adds = adds(first % group > 0, flag::ACCUMULATE) | adds(first > 0, flag::ACCUMULATE_SCALARS);
        let params = Params { flags: flags | adds, ..self.params(groups, portion.group) };
        let mut parts = Parts::new(self.at, self.limits, params);
        let record = self.layout.record();
        parts.bind(Slot::Sums, Argument::Workspace, 4, first * record, portion.len() * record)?;
        let (first_column, len) = (first / group * cols, groups * cols);
        parts.bind(Slot::Dgamma, Argument::Dgamma, 4, first_column, len)?;
        parts.bind(Slot::Dbeta, Argument::Dbeta, 4, first_column, len)?;
        parts.bind(Slot::Dalpha, Argument::Dalpha, 4, 0, 1)?;
        parts.bind(Slot::Dshift, Argument::Dshift, 4, 0, 1)?;
        Ok(Some(parts.dispatch(self.kernel(), workgroups)))
    }
}
