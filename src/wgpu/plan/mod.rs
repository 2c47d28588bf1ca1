//! From a problem to dispatches: pure functions, tested without a device.
//!
//! What decides bits (the form, the chunks of rows whose partial sums are kept apart) follows from the problem, the
//! alignment of its buffers and the limits of the device. Tensors beyond what may be bound at once are cut at rows, in
//! a backward at chunks of rows, and each dispatch is bound to its own part.
#![expect(clippy::cast_possible_truncation, reason = "whatever is bound at once has less than 2^31 bytes")]

mod flag;
mod fold;
mod norm;
mod params;
mod parts;
mod pointwise;
mod portion;
mod quant;
mod rows;
mod stage;
mod steps;
#[cfg(test)]
mod tests;
mod tiling;

pub(super) use params::Params;

use super::adapter::refused;
use super::compose::{Kernel, Slot};
use crate::{Argument, Pass, Problem, Refusal, Result, Std};
use portion::Portion;
use rows::Rows;
use stage::Stage;
use tiling::{Layout, Tiling};

/// The geometry that both families share.
mod geometry {
    use crate::DType;

    /// Lanes of a workgroup.
    pub(super) const LANES: u64 = 256;

    /// Elements of `dtype` in 16 bytes.
    pub(super) const fn vector(dtype: DType) -> u64 {
        16 / dtype.size() as u64
    }

    /// The largest power of two that is at most `n`, at least 1.
    pub(super) const fn floor_power(n: u64) -> u64 {
        if n < 2 { 1 } else { 1 << (63 - n.leading_zeros()) }
    }
}

/// What a device allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of the beginning of a binding: `min_storage_buffer_offset_alignment`.
    pub(super) alignment: u64,
    /// Bytes of a binding: `max_storage_buffer_binding_size`, and less than 2^31.
    pub(super) binding: u64,
    /// Workgroups along a dimension: `max_compute_workgroups_per_dimension`.
    pub(super) workgroups: u64,
    /// Whether it has subgroup operations.
    pub(super) subgroups: bool,
    /// Steps that a lane may take in all loops of a kernel together, if the driver counts them: `adapter::loop_steps`.
    pub(super) loop_steps: Option<u64>,
}

impl Limits {
    /// Bytes of an argument that can be bound wherever it begins.
    const fn budget(&self) -> u64 {
        self.binding.saturating_sub(self.alignment + 4)
    }

    /// The same, where a driver that does not count is one that allows any number.
    fn most_steps(&self) -> u64 {
        self.loop_steps.unwrap_or(u64::MAX)
    }

    /// Bytes that the rows of a chunk may span, so that every device of usual limits cuts the same chunks.
    const fn chunk_bytes(&self) -> u64 {
        let half = self.binding / 2;
        if half < 64 << 20 { half } else { 64 << 20 }
    }
}

/// The operands of a call with a residual. Which of them is x and which is the residual makes no difference to the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operands {
    /// `None` where sum holds it on entry.
    pub(super) addend: Option<Argument>,
    /// `None` where y holds it on entry.
    pub(super) residual: Option<Argument>,
}

/// Where dsum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dsum {
    Apart,
    InDx,
}

/// Where the arguments of a call begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Of those that are there, in bytes.
    offsets: Vec<(Argument, u64)>,
    /// Whether y holds x, or dx holds dy.
    pub(super) in_place: bool,
    /// Whether an output lies in the same buffer as an input that is not its in-place partner.
    pub(super) within_one_buffer: bool,
    /// What is added up, if there is a residual.
    pub(super) operands: Option<Operands>,
    /// Where dsum is, if there is one.
    pub(super) dsum: Option<Dsum>,
    /// The same of the workspace and the gradients of parameters.
    pub(super) folds_within_one_buffer: bool,
}

impl Arguments {
    /// In bytes.
    pub(super) fn offset(&self, argument: Argument) -> Option<u64> {
        self.offsets.iter().find(|(there, _)| *there == argument).map(|(_, offset)| *offset)
    }

    /// Adds an argument, which is not there yet.
    pub(super) fn add(&mut self, argument: Argument, offset: u64) {
        self.offsets.push((argument, offset));
    }

    fn has(&self, argument: Argument) -> bool {
        self.offset(argument).is_some()
    }

    /// The tensors of a forward by their slots.
    fn forward_tensors(&self) -> Vec<(Slot, Argument)> {
        let Some(Operands { addend, residual }) = self.operands else {
            return vec![(Slot::X, Argument::X), (Slot::Out, Argument::Y)];
        };
        let operands = [(Slot::Addend, addend), (Slot::Residual, residual)];
        let operands = operands.into_iter().filter_map(|(slot, operand)| Some((slot, operand?)));
        [(Slot::X, Argument::Sum), (Slot::Out, Argument::Y)].into_iter().chain(operands).collect()
    }

    /// Those of a backward.
    fn backward_tensors(&self) -> Vec<(Slot, Argument)> {
        let mut tensors = vec![(Slot::Dy, Argument::Dy), (Slot::X, Argument::X), (Slot::Out, Argument::Dx)];
        if self.dsum == Some(Dsum::Apart) {
            tensors.push((Slot::Dsum, Argument::Dsum));
        }
        tensors
    }
}

/// A range of a buffer that a kernel reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) slot: Slot,
    pub(super) argument: Argument,
    /// In bytes, a multiple of the alignment.
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// One dispatch of a kernel. A slot of the kernel without a binding is of no use to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dispatch {
    pub(super) kernel: Kernel,
    pub(super) workgroups: [u32; 3],
    pub(super) params: Params,
    pub(super) bindings: Vec<Binding>,
}

/// The dispatches of a forward, to be recorded one behind the other.
pub(super) fn forward(problem: &Problem, at: &Arguments, limits: &Limits) -> Result<Vec<Dispatch>> {
    if problem.quant().is_some() {
        return quant::forward(problem, at, limits);
    }
    let tensors = at.forward_tensors();
    let wide = is_wide(problem, at, &tensors);
    let tiling = Tiling::forward(problem, wide);
    let stage = Stage { problem, at, limits, rows: Rows::of(problem), tiling, wide, pass: Pass::Forward };
    let flags = flag::forward(problem, at);
    let dispatch = |portion| Ok(stage.dispatch(stage.bound(flags, portion, &tensors)?, portion));
    let dispatches = Portion::of(problem).cut(stage.most(0)).map(dispatch);
    complete(dispatches.collect::<Result<_>>()?, limits)
}

/// The dispatches of a backward, to be recorded one behind the other.
pub(super) fn backward(problem: &Problem, at: &Arguments, limits: &Limits) -> Result<Vec<Dispatch>> {
    let tensors = at.backward_tensors();
    let wide = is_wide(problem, at, &tensors);
    let tiling = Tiling::backward(problem, wide, limits);
    let layout = tiling.layout(problem);
    let stage = Stage { problem, at, limits, rows: Rows::of(problem), tiling, wide, pass: Pass::Backward };
    let flags = flag::backward(problem, at);
    let dispatch = |portion| {
        let mut parts = stage.bound(flags, portion, &tensors)?;
        parts.place_sums(&layout);
        if flag::gradients(at) & !flag::DX != 0 {
            let before = tiling.chunks_before(problem, portion.first);
            let chunks = tiling.chunks(problem, portion);
            parts.bind(
                Slot::Sums,
                Argument::Workspace,
                4,
                before * layout.record(),
                chunks * layout.record(),
            )?;
        }
        Ok(stage.dispatch(parts, portion))
    };
    let all = Portion::of(problem);
    let dispatches = all.cut(stage.most(layout.record())).map(dispatch);
    let mut dispatches = dispatches.collect::<Result<_>>()?;
    let chunks = Portion { group: tiling.chunks_of(problem, all.group), ..all };
    fold::push(problem, at, limits, &layout, chunks, &mut dispatches)?;
    complete(dispatches, limits)
}

/// Refuses dispatches of which the driver would skip a part.
fn complete(dispatches: Vec<Dispatch>, limits: &Limits) -> Result<Vec<Dispatch>> {
    let Some(limit) = limits.loop_steps else { return Ok(dispatches) };
    let needed = dispatches.iter().map(|dispatch| steps::of(dispatch.kernel, &dispatch.params)).max();
    match needed {
        Some(needed) if needed > limit => Err(refused(Refusal::LoopSteps { needed, limit })),
        _ => Ok(dispatches),
    }
}

/// Bytes of workspace that a call needs, whatever gradients it asks for and wherever its buffers begin.
pub(super) fn workspace_bytes(problem: &Problem, pass: Pass, limits: &Limits) -> usize {
    match pass {
        Pass::Forward => return 0,
        Pass::Backward => {}
    }
    let bytes = |wide| {
        let tiling = Tiling::backward(problem, wide, limits);
        let chunks = tiling.chunks(problem, Portion::of(problem));
        usize::try_from(chunks.saturating_mul(tiling.layout(problem).record()).saturating_mul(4))
            .unwrap_or(usize::MAX)
    };
    if may_be_wide(problem) { bytes(false).max(bytes(true)) } else { bytes(false) }
}

/// Whether rows are whole blocks of 16 bytes apart from where the tensors begin.
fn may_be_wide(problem: &Problem) -> bool {
    let v = geometry::vector(problem.dtype()) as usize;
    let strided = Rows::of(problem).begin_at_multiples(v);
    // The norms go over channels-first data by elements.
    let inner = problem.inner() == 1 || problem.op().is_pointwise();
    strided && inner && problem.row_len().is_multiple_of(v)
}

fn is_wide(problem: &Problem, at: &Arguments, tensors: &[(Slot, Argument)]) -> bool {
    may_be_wide(problem)
        && tensors.iter().all(|&(_, tensor)| at.offset(tensor).is_none_or(|offset| offset.is_multiple_of(16)))
}

fn part_params(problem: &Problem, tiling: &Tiling, rows: u64) -> Params {
    Params {
        rows: rows as u32,
        cols: problem.cols() as u32,
        inner: problem.inner() as u32,
        len: problem.row_len() as u32,
        eps: problem.eps(),
        largest_rstd: largest_rstd(problem),
        least_squares: problem.least_squares(),
        gamma_offset: problem.added_to_gamma(),
        ..tiling.params()
    }
}

/// rstd where the variance is 0, infinite where eps is.
fn largest_rstd(problem: &Problem) -> f32 {
    match problem.std() {
        Std::Biased => problem.eps().sqrt().recip(),
        Std::Unbiased => problem.eps().recip(),
    }
}
