//! The first stage of a pass, or its only one: the dispatches that go over the tensors.

use super::super::compose::{Kernel, Slot};
use super::parts::Parts;
use super::portion::{Most, Portion};
use super::rows::Rows;
use super::tiling::Tiling;
use super::{Arguments, Dispatch, Limits, Params, part_params};
use crate::{Argument, Error, Pass, Problem, Result};

pub(super) struct Stage<'a> {
    pub(super) problem: &'a Problem,
    pub(super) at: &'a Arguments,
    pub(super) limits: &'a Limits,
    pub(super) rows: Rows,
    pub(super) tiling: Tiling,
    pub(super) wide: bool,
    pub(super) pass: Pass,
}

impl<'a> Stage<'a> {
    fn kernel(&self) -> Kernel {
        let (body, dtype) = (self.tiling.body(self.pass, self.limits), self.problem.dtype());
        let adds = self.at.operands.is_some() || self.at.dsum.is_some();
        let (in_place, shared) = (self.at.in_place, self.at.within_one_buffer || adds);
        Kernel { body, dtype, wide: self.wide, in_place, shared }
    }

    /// Rows that can be bound at once; each chunk of a backward leaves `record` values in the workspace.
    pub(super) fn most(&self, record: u64) -> Most {
        let (problem, budget) = (self.problem, self.limits.budget());
        let mut rows = self.rows.within(budget / problem.dtype().size() as u64);
        if [Argument::Mean, Argument::Rstd, Argument::Scales]
            .into_iter()
            .any(|argument| self.at.has(argument))
        {
            rows = rows.min(budget / (4 * problem.inner() as u64));
        }
        let group = problem.param_rows() as u64;
        let of_columns = budget / (problem.cols() * problem.param_dtype().size()) as u64;
        let groups = (rows / group.max(1)).min(of_columns);
        if record == 0 {
            return Most { groups, part: rows.max(1) };
        }
        let chunk_rows = self.tiling.chunk_rows(problem).max(1);
        let chunks = |rows| budget / (4 * record * self.tiling.chunks_of(problem, rows)).max(1);
        let whole = rows.min(chunks(chunk_rows).saturating_mul(chunk_rows)) / chunk_rows * chunk_rows;
        Most { groups: groups.min(chunks(group)), part: whole.max(chunk_rows) }
    }

    /// The bindings of a part of the rows that both passes have.
    pub(super) fn bound(
        &self,
        flags: u32,
        portion: Portion,
        tensors: &[(Slot, Argument)],
    ) -> Result<Parts<'a>> {
        let rows = portion.len();
        let params = Params { flags, ..part_params(self.problem, &self.tiling, rows) };
        let params = self.rows.params(portion.first, rows, params);
        let mut parts = Parts::new(self.at, self.limits, self.of_groups(portion, params));
        self.bind_rows(&mut parts, portion, tensors)?;
        self.bind_columns(&mut parts, portion)?;
        self.bind_statistics(&mut parts, portion)?;
        Ok(parts)
    }

    /// `params` with the groups of rows that share gamma and beta, if there are several.
    fn of_groups(&self, portion: Portion, params: Params) -> Params {
        if portion.groups == 1 {
            return params;
        }
        let ends = !self.tiling.crosses_groups(self.pass);
        let group_chunks = if ends { self.tiling.chunks_of(self.problem, portion.group) as u32 } else { 0 };
        Params { group_rows: portion.group as u32, group_chunks, ..params }
    }

    pub(super) fn dispatch(&self, parts: Parts<'_>, portion: Portion) -> Dispatch {
        parts.dispatch(self.kernel(), self.tiling.workgroups(self.problem, self.pass, portion))
    }

    fn bind_rows(&self, parts: &mut Parts<'_>, portion: Portion, tensors: &[(Slot, Argument)]) -> Result<()> {
        let size = self.problem.dtype().size() as u64;
        for &(slot, argument) in tensors {
            let (first, len) = self.rows.range(argument, portion.first, portion.len());
            if !self.rows.are_countable() {
                return Err(Error::RowTooLarge { argument, bytes: len * size, limit: self.limits.binding });
            }
            parts.bind(slot, argument, size, first, len)?;
        }
        Ok(())
    }

    /// gamma and beta, alpha and shift.
    fn bind_columns(&self, parts: &mut Parts<'_>, portion: Portion) -> Result<()> {
        let (size, cols) = (self.problem.param_dtype().size() as u64, self.problem.cols() as u64);
        let (first, len) = (portion.first / self.problem.param_rows() as u64 * cols, portion.groups * cols);
        parts.bind(Slot::Gamma, Argument::Gamma, size, first, len)?;
        parts.bind(Slot::Beta, Argument::Beta, size, first, len)?;
        parts.bind(Slot::Alpha, Argument::Alpha, 4, 0, 1)?;
        parts.bind(Slot::Shift, Argument::Shift, 4, 0, 1)
    }

    fn bind_statistics(&self, parts: &mut Parts<'_>, portion: Portion) -> Result<()> {
        let inner = self.problem.inner() as u64;
        let (first, len) = (portion.first * inner, portion.len() * inner);
        parts.bind(Slot::Mean, Argument::Mean, 4, first, len)?;
        parts.bind(Slot::Rstd, Argument::Rstd, 4, first, len)
    }
}
