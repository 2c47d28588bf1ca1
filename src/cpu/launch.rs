//! From a checked call to the kernel of its op and storage types: the one place where the op chooses a kernel.

use super::curve::{Erf, Tanh};
use super::types::{Typed, with_types};
use super::{Cpu, pointwise, rownorm};
use crate::cpu::stored::Stored;
use crate::ops::{BackwardPtrs, ForwardPtrs};
use crate::{Op, Problem};

/// A checked call.
#[derive(Clone, Copy)]
pub(super) struct Launch<'a, A> {
    pub(super) cpu: &'a Cpu,
    pub(super) problem: &'a Problem,
    pub(super) arguments: &'a A,
    /// The partial sums of the backward; null in the forward.
    pub(super) workspace: *mut f32,
}

impl Cpu {
    /// # Safety
    /// The arguments are checked against the problem.
    pub(crate) unsafe fn forward(&self, problem: &Problem, arguments: &ForwardPtrs) {
        with_types(problem, Launch { cpu: self, problem, arguments, workspace: core::ptr::null_mut() });
    }

    /// # Safety
    /// The arguments are checked against the problem; `workspace` has as many bytes as [`Self::workspace_bytes`]
    /// says, aligned for f32, and no other call uses it.
    pub(crate) unsafe fn backward(&self, problem: &Problem, arguments: &BackwardPtrs, workspace: *mut f32) {
        with_types(problem, Launch { cpu: self, problem, arguments, workspace });
    }
}

impl Typed for Launch<'_, ForwardPtrs> {
    fn call<T: Stored, P: Stored>(self) {
        match self.problem.op() {
            Op::Dyt => pointwise::forward::<T, P, Tanh>(self),
            Op::Derf => pointwise::forward::<T, P, Erf>(self),
            Op::LayerNorm => rownorm::forward::<T, P, true>(self),
            Op::RmsNorm => rownorm::forward::<T, P, false>(self),
        }
    }
}

impl Typed for Launch<'_, BackwardPtrs> {
    fn call<T: Stored, P: Stored>(self) {
        match self.problem.op() {
            Op::Dyt => pointwise::backward::<T, P, Tanh>(self),
            Op::Derf => pointwise::backward::<T, P, Erf>(self),
            Op::LayerNorm => rownorm::backward::<T, P, true>(self),
            Op::RmsNorm => rownorm::backward::<T, P, false>(self),
        }
    }
}
