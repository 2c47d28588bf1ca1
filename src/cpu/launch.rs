//! From a checked call to the kernel of its op and type: the one place where both are chosen.

use half::{bf16, f16};

use super::math::{Erf, Tanh};
use super::stored::Stored;
use super::tensor::Tensor;
use super::{Cpu, norm, pointwise, quant};
use crate::ops::{BackwardPtrs, ForwardPtrs};
use crate::{Op, Problem, Quant, Storage};

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
        let launch = Launch { cpu: self, problem, arguments, workspace: core::ptr::null_mut() };
        match problem.storage() {
            Storage::F32 => launch.forward::<f32>(),
            Storage::F16 | Storage::F16ParamsF32 => launch.forward::<f16>(),
            Storage::Bf16 | Storage::Bf16ParamsF32 => launch.forward::<bf16>(),
        }
    }

    /// # Safety
    /// The arguments are checked against the problem; `workspace` has as many bytes as [`Self::workspace_bytes`]
    /// says, aligned for f32, and no other call uses it.
    pub(crate) unsafe fn backward(&self, problem: &Problem, arguments: &BackwardPtrs, workspace: *mut f32) {
        if arguments.asks_for_nothing() {
            return;
        }
        let launch = Launch { cpu: self, problem, arguments, workspace };
        match problem.storage() {
            Storage::F32 => launch.backward::<f32>(),
            Storage::F16 | Storage::F16ParamsF32 => launch.backward::<f16>(),
            Storage::Bf16 | Storage::Bf16ParamsF32 => launch.backward::<bf16>(),
        }
    }
}

impl<A> Launch<'_, A> {
    /// A tensor that has the strides of x.
    ///
    /// # Safety
    /// `first` is that of a checked argument, or null and not followed; no two tasks write to one place.
    pub(super) unsafe fn like_x<T: Stored>(&self, first: *mut u8) -> Tensor<T> {
        // SAFETY: a checked argument has the problem's elements.
        unsafe { Tensor::new(first.cast(), self.problem, self.problem.layout()) }
    }

    /// A tensor that has the strides of y.
    ///
    /// # Safety
    /// As [`Self::like_x`].
    pub(super) unsafe fn like_y<T: Stored>(&self, first: *mut u8) -> Tensor<T> {
        // SAFETY: as above.
        unsafe { Tensor::new(first.cast(), self.problem, self.problem.y_layout()) }
    }
}

impl Launch<'_, ForwardPtrs> {
    fn forward<T: Stored>(self) {
        if let Some(quant) = self.problem.quant() {
            return self.quantised::<T>(quant);
        }
        match self.problem.op() {
            Op::Dyt => pointwise::forward::<T, Tanh>(self),
            Op::Derf => pointwise::forward::<T, Erf>(self),
            Op::LayerNorm => norm::forward::<T, true>(self),
            Op::RmsNorm => norm::forward::<T, false>(self),
        }
    }
}

impl Launch<'_, ForwardPtrs> {
    fn quantised<T: Stored>(self, quant: Quant) {
        let Self { problem, arguments, .. } = self;
        match problem.op() {
            Op::Dyt => {
                quant::forward::<T, _>(self, quant, pointwise::Values::<Tanh>::new(problem, arguments));
            }
            Op::Derf => {
                quant::forward::<T, _>(self, quant, pointwise::Values::<Erf>::new(problem, arguments));
            }
            Op::LayerNorm => quant::forward::<T, _>(self, quant, norm::Values::<T, true>::new(&self)),
            Op::RmsNorm => quant::forward::<T, _>(self, quant, norm::Values::<T, false>::new(&self)),
        }
    }
}

impl Launch<'_, BackwardPtrs> {
    fn backward<T: Stored>(self) {
        match self.problem.op() {
            Op::Dyt => pointwise::backward::<T, Tanh>(self),
            Op::Derf => pointwise::backward::<T, Erf>(self),
            Op::LayerNorm => norm::backward::<T, true>(self),
            Op::RmsNorm => norm::backward::<T, false>(self),
        }
    }
}
