//! The ops as candle's graph sees them.
//!
//! candle's custom ops have three arguments at most, and DyT has four tensors with gradients, Derf five. So the graph
//! has one node of x, gamma and the rest: alpha, shift and beta in one f32 vector, joined by candle's `cat`, which also
//! takes the gradient apart again. One fused backward writes the gradients of all of them.

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail,
};
use dyt::Problem;

use crate::call::{self, Parameters, Read, Statistics, Wanted};
use crate::place::{Guards, Place, Source, tensor};

/// One call of an op in the graph: the arguments are x, then gamma if there is one, then the rest if there is one.
pub(crate) struct Fused {
    problem: Problem,
    /// Whether gamma is the second argument.
    gamma: bool,
    /// alpha and shift in the rest, in front of beta.
    scalars: usize,
    /// Whether the rest ends in beta.
    beta: bool,
    /// What the forward saved.
    statistics: OnceLock<Statistics>,
}

impl Fused {
    /// The node for `problem`. `rest` is the vector of alpha, shift and beta as far as the op has them, or beta alone.
    pub(crate) fn apply(
        problem: Problem,
        x: &Tensor,
        gamma: Option<&Tensor>,
        rest: Option<&Tensor>,
        beta: bool,
    ) -> Result<Tensor> {
        let op = problem.op();
        let scalars = usize::from(op.is_pointwise()) + usize::from(op.has_shift());
        let statistics = OnceLock::new();
        let fused = Self { problem, gamma: gamma.is_some(), scalars, beta, statistics };
        match (gamma, rest) {
            (Some(gamma), Some(rest)) => x.apply_op3(gamma, rest, fused),
            (Some(second), None) | (None, Some(second)) => x.apply_op2(second, fused),
            (None, None) => x.apply_op1(fused),
        }
    }

    fn has_rest(&self) -> bool {
        self.scalars > 0 || self.beta
    }

    /// The parameters among the arguments behind x.
    fn parameters<'a>(
        &self,
        place: &'a Place,
        arguments: &[Read<'a>],
        guards: &mut Guards<'a>,
    ) -> Result<Parameters<'a>> {
        let mut parameters = Parameters::default();
        let mut arguments = arguments.iter();
        if self.gamma {
            let Some((source, layout)) = arguments.next() else { bail!("gamma is missing") };
            parameters.gamma = Some(source.view(layout, place, guards)?);
        }
        if self.has_rest() {
            let Some((source, layout)) = arguments.next() else { bail!("a parameter is missing") };
            let mut part = |begin, len| source.view(&layout.narrow(0, begin, len)?, place, guards);
            parameters.alpha = (self.scalars > 0).then(|| part(0, 1)).transpose()?;
            parameters.shift = (self.scalars > 1).then(|| part(1, 1)).transpose()?;
            parameters.beta =
                self.beta.then(|| part(self.scalars, layout.dims()[0] - self.scalars)).transpose()?;
        }
        Ok(parameters)
    }

    fn forward(&self, arguments: &[Read<'_>]) -> Result<(Storage, Shape)> {
        let [(x, layout), rest @ ..] = arguments else { bail!("x is missing") };
        let place = x.place()?;
        let mut guards = Guards::default();
        let parameters = self.parameters(&place, rest, &mut guards)?;
        let x = x.view(layout, &place, &mut guards)?;
        let written = call::forward(&self.problem, &place, (x, None), &parameters, true)?;
        if let Some(kept) = written.statistics {
            // A node's forward runs once; were it run again on the same x, the statistics would be the same.
            let _ = self.statistics.set(kept);
        }
        Ok((written.y, layout.shape().clone()))
    }

    /// The gradients of the arguments, in their order; `None` for those that nothing in the graph depends on.
    fn backward<const N: usize>(&self, arguments: [&Tensor; N], dy: &Tensor) -> Result<[Option<Tensor>; N]> {
        let dy = dy.contiguous()?;
        let (dy_storage, dy_layout) = dy.storage_and_layout();
        let held = arguments.map(Tensor::storage_and_layout);
        let mut reads = Vec::with_capacity(N);
        for (storage, layout) in &held {
            reads.push((Source::of(storage)?, *layout));
        }
        let place = reads[0].0.place()?;
        let mut guards = Guards::default();
        let parameters = self.parameters(&place, &reads[1..], &mut guards)?;
        let x = reads[0].0.view(reads[0].1, &place, &mut guards)?;
        let dy = Source::of(&dy_storage)?.view(dy_layout, &place, &mut guards)?;

        let rest_at = 1 + usize::from(self.gamma);
        let wants = |i: usize| arguments.get(i).is_some_and(|argument| argument.track_op());
        let wanted = Wanted {
            dx: wants(0),
            dgamma: self.gamma && wants(1),
            rest: (self.has_rest() && wants(rest_at)).then_some((self.scalars, self.beta)),
        };
        let gradients =
            call::backward(&self.problem, &place, (dy, x), &parameters, self.statistics.get(), wanted)?;
        let mut results = [const { None }; N];
        for (at, gradient) in [0, 1, rest_at].into_iter().zip(gradients) {
            if let Some(gradient) = gradient {
                let like = arguments[at];
                results[at] = Some(tensor(gradient, like.shape()).to_dtype(like.dtype())?);
            }
        }
        Ok(results)
    }
}

/// The storage of an op's result on the CPU.
fn on_cpu((storage, shape): (Storage, Shape)) -> Result<(CpuStorage, Shape)> {
    match storage {
        Storage::Cpu(storage) => Ok((storage, shape)),
        Storage::Cuda(_) | Storage::Metal(_) => bail!("a result of the CPU that lies elsewhere"),
    }
}

/// The storage of an op's result on a GPU.
#[cfg(feature = "cuda")]
fn on_cuda((storage, shape): (Storage, Shape)) -> Result<(CudaStorage, Shape)> {
    match storage {
        Storage::Cuda(storage) => Ok((storage, shape)),
        Storage::Cpu(_) | Storage::Metal(_) => bail!("a result of the GPU that lies elsewhere"),
    }
}

/// One of candle's traits for an op of so many arguments; the storage and the layout of each is named.
macro_rules! custom_op {
    ($custom:ident: $($argument:ident $layout:ident),+ => $gradients:ty) => {
        impl $custom for Fused {
            fn name(&self) -> &'static str {
                self.problem.op().name()
            }
            fn cpu_fwd(
                &self,
                $($argument: &CpuStorage, $layout: &Layout),+
            ) -> Result<(CpuStorage, Shape)> {
                on_cpu(self.forward(&[$((Source::Cpu($argument), $layout)),+])?)
            }
            #[cfg(feature = "cuda")]
            fn cuda_fwd(
                &self,
                $($argument: &CudaStorage, $layout: &Layout),+
            ) -> Result<(CudaStorage, Shape)> {
                on_cuda(self.forward(&[$((Source::Cuda($argument), $layout)),+])?)
            }
            fn bwd(&self, $($argument: &Tensor),+, _: &Tensor, dy: &Tensor) -> Result<$gradients> {
                let [$($argument),+] = self.backward([$($argument),+], dy)?;
                Ok(($($argument),+))
            }
        }
    };
}

custom_op!(CustomOp1: x lx => Option<Tensor>);
custom_op!(CustomOp2: x lx, p lp => (Option<Tensor>, Option<Tensor>));
custom_op!(CustomOp3: x lx, p lp, q lq => (Option<Tensor>, Option<Tensor>, Option<Tensor>));
