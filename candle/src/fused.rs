//! The ops as candle's graph sees them.
//!
//! candle's custom ops have three arguments at most, and DyT has four tensors with gradients, Derf five. So the graph
//! has one node of x, gamma and the rest: alpha, shift and beta in one f32 vector, joined by candle's `cat`, which also
//! takes the gradient apart again. One fused backward writes the gradients of all of them.

use std::sync::OnceLock;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail,
};
use dyt::{Problem, View};

use crate::cpu::{self, Gradients, Parameters, Statistics};

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

/// An argument as candle hands it over.
type Argument<'a> = (&'a CpuStorage, &'a Layout);

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
    fn parameters<'a>(&self, arguments: &[Argument<'a>]) -> Result<Parameters<'a>> {
        let mut arguments = arguments.iter();
        let mut next = || match arguments.next() {
            Some(argument) => Ok(*argument),
            None => bail!("{}: an argument is missing", self.problem.op()),
        };
        let mut parameters = Parameters::default();
        if self.gamma {
            let (storage, layout) = next()?;
            parameters.gamma = Some(cpu::view(storage, layout)?);
        }
        if self.has_rest() {
            let (storage, layout) = next()?;
            if self.scalars > 0 {
                let (scalars, beta) = cpu::floats(storage, layout)?.split_at(self.scalars);
                parameters.alpha = scalars.first().map(View::from);
                parameters.shift = scalars.get(1).map(View::from);
                parameters.beta = self.beta.then(|| View::from(beta));
            } else {
                parameters.beta = Some(cpu::view(storage, layout)?);
            }
        }
        Ok(parameters)
    }

    fn forward(&self, arguments: &[Argument<'_>]) -> Result<(CpuStorage, Shape)> {
        let [(storage, layout), rest @ ..] = arguments else { bail!("x is missing") };
        let parameters = self.parameters(rest)?;
        let (y, kept) = cpu::forward(&self.problem, cpu::view(storage, layout)?, &parameters, true)?;
        if let Some(kept) = kept {
            // A node's forward runs once; were it run again on the same x, the statistics would be the same.
            let _ = self.statistics.set(kept);
        }
        Ok((y, layout.shape().clone()))
    }

    /// The gradients of the arguments, in their order; `None` for those that nothing in the graph depends on.
    fn backward<const N: usize>(&self, arguments: [&Tensor; N], dy: &Tensor) -> Result<[Option<Tensor>; N]> {
        let dy = dy.contiguous()?;
        let (dy_storage, dy_layout) = dy.storage_and_layout();
        let held = arguments.map(Tensor::storage_and_layout);
        let mut slices = Vec::with_capacity(N);
        for (storage, layout) in &held {
            slices.push((host(storage)?, *layout));
        }
        let x = cpu::view(slices[0].0, slices[0].1)?;
        let parameters = self.parameters(&slices[1..])?;

        let wanted = arguments.map(Tensor::track_op);
        let second = if self.gamma { 1 } else { 0 };
        let rest = second + 1;
        let (cols, problem) = (self.problem.cols(), &self.problem);
        let wants = |i: usize| wanted.get(i).copied().unwrap_or(false);
        let mut dx = wants(0).then(|| cpu::zeros(problem.dtype(), problem.elements()));
        let mut dgamma = (self.gamma && wants(1)).then(|| vec![0.0_f32; cols]);
        let tail = if self.beta { cols } else { 0 };
        let mut drest = (self.has_rest() && wants(rest)).then(|| vec![0.0_f32; self.scalars + tail]);
        let mut gradients =
            Gradients { dx: dx.as_mut(), dgamma: dgamma.as_deref_mut(), ..Gradients::default() };
        if let Some(drest) = drest.as_deref_mut() {
            let (scalars, dbeta) = drest.split_at_mut(self.scalars);
            let mut scalars = scalars.iter_mut();
            (gradients.dalpha, gradients.dshift) = (scalars.next(), scalars.next());
            gradients.dbeta = self.beta.then_some(dbeta);
        }
        let dy = cpu::view(host(&dy_storage)?, dy_layout)?;
        cpu::backward(problem, dy, x, &parameters, self.statistics.get(), gradients)?;

        let mut results = [const { None }; N];
        results[0] = dx.map(|dx| tensor(dx, arguments[0])).transpose()?;
        for (place, gradient) in [(1, dgamma), (rest, drest)] {
            if let Some(gradient) = gradient {
                let like = arguments[place];
                results[place] = Some(tensor(CpuStorage::F32(gradient), like)?.to_dtype(like.dtype())?);
            }
        }
        Ok(results)
    }
}

/// What lies on the CPU.
pub(crate) fn host(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        Storage::Cuda(_) | Storage::Metal(_) => bail!("dyt-candle runs on the CPU in this version"),
    }
}

/// Storage as a tensor of the shape of another, outside of any graph. Nothing is copied.
pub(crate) fn tensor(storage: CpuStorage, like: &Tensor) -> Result<Tensor> {
    let (shape, device) = (like.shape().clone(), like.device());
    match storage {
        CpuStorage::F32(v) => Tensor::from_vec(v, shape, device),
        CpuStorage::F16(v) => Tensor::from_vec(v, shape, device),
        CpuStorage::BF16(v) => Tensor::from_vec(v, shape, device),
        _ => bail!("dyt makes tensors of f32, f16 and bf16"),
    }
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        self.problem.op().name()
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(x, lx)])
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = self.backward([x], dy)?;
        Ok(dx)
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        self.problem.op().name()
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        p: &CpuStorage,
        lp: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(x, lx), (p, lp)])
    }
    fn bwd(
        &self,
        x: &Tensor,
        p: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dp] = self.backward([x, p], dy)?;
        Ok((dx, dp))
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        self.problem.op().name()
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        p: &CpuStorage,
        lp: &Layout,
        q: &CpuStorage,
        lq: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(x, lx), (p, lp), (q, lq)])
    }
    fn bwd(
        &self,
        x: &Tensor,
        p: &Tensor,
        q: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dp, dq] = self.backward([x, p, q], dy)?;
        Ok((dx, dp, dq))
    }
}
