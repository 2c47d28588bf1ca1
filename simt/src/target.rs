//! A device for the conformance suite.

use dyt::cuda::plan::{self, BackwardAddresses, ForwardAddresses, Launches, Limits};
use dyt::{
    Backend, Backward, Buffer, Device, Dsum, Error, Forward, Level, Pass, Problem, Residual, Result, View,
    ViewMut,
};
use dyt_conformance::Target;

use crate::{Exact, Order};

/// The CUDA kernels on the host, held to the bounds of CUDA.
#[derive(Clone, Debug)]
pub struct Simt {
    orders: Vec<Order>,
    limits: Vec<Limits>,
}

impl Simt {
    /// Threads by their index.
    #[must_use]
    pub fn new() -> Self {
        Self { orders: vec![Order::Forward], limits: vec![Limits::BASELINE] }
    }

    /// Runs every launch in each of these orders, and fails where they do not give the same bits.
    #[must_use]
    pub fn orders(mut self, orders: &[Order]) -> Self {
        self.orders = orders.to_vec();
        self
    }

    /// Runs every call by the plans for each of these machines, and fails where they do not give the same bits.
    #[must_use]
    pub fn limits(mut self, limits: &[Limits]) -> Self {
        self.limits = limits.to_vec();
        self
    }

    /// Runs the launches that `plan` makes of copies of the inputs and outputs, and writes back the outputs.
    fn run(
        &self,
        inputs: &[Option<View<'_>>],
        mut outputs: Vec<Option<ViewMut<'_>>>,
        plan: impl Fn(Limits, &[u64], &[u64]) -> Launches,
    ) {
        let mut first: Option<Vec<Option<Exact>>> = None;
        let ways =
            self.orders.iter().flat_map(|order| self.limits.iter().map(move |limits| (order, *limits)));
        for (order, limits) in ways {
            let mut read: Vec<_> = inputs.iter().map(|view| view.as_ref().map(Exact::read)).collect();
            let mut written: Vec<_> =
                outputs.iter_mut().map(|view| view.as_mut().map(Exact::written)).collect();
            let launches = plan(limits, &addresses(&mut read), &addresses(&mut written));
            for launch in launches.iter() {
                // SAFETY: every address is that of a copy of the argument, and nothing else knows them.
                let done = unsafe { crate::launch(launch, *order) };
                assert_eq!(done, Ok(()), "{order:?}");
            }
            for (before, view) in read.iter().zip(inputs) {
                let now = view.as_ref().map(Exact::read);
                let same = before.as_ref().map(Exact::bytes) == now.as_ref().map(Exact::bytes);
                assert!(same, "a kernel has written to an input");
            }
            match &first {
                None => first = Some(written),
                Some(first) => {
                    for (i, (one, other)) in first.iter().zip(&written).enumerate() {
                        let same = one.as_ref().map(Exact::bytes) == other.as_ref().map(Exact::bytes);
                        assert!(same, "{order:?}, {limits:?}: other bits in output {i} than the first time");
                    }
                }
            }
        }
        for (result, view) in first.iter().flatten().zip(&mut outputs) {
            if let (Some(result), Some(view)) = (result, view) {
                result.write_back(view);
            }
        }
    }
}

impl Default for Simt {
    fn default() -> Self {
        Self::new()
    }
}

/// Their addresses, 0 where absent.
fn addresses(buffers: &mut [Option<Exact>]) -> Vec<u64> {
    buffers.iter_mut().map(|buffer| buffer.as_mut().map_or(0, Exact::address)).collect()
}

/// Refuses what the kernels do not take yet, as the device does.
fn check(problem: &Problem, joins: bool) -> Result<()> {
    let backend = Backend::Cuda;
    backend.lacks(problem, joins).map_or(Ok(()), |what| Err(Error::NotSupported { backend, what }))
}

impl Target for Simt {
    fn name(&self) -> String {
        "cuda-simt".to_owned()
    }
    fn backend(&self) -> Backend {
        Backend::Cuda
    }
    fn upload(&self, source: View<'_>) -> Result<Buffer> {
        Device::cpu(Level::Portable)?.upload(source)
    }
    fn read(&self, source: &Buffer, target: ViewMut<'_>) -> Result<()> {
        Device::cpu(Level::Portable)?.read(source, target)
    }
    fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize {
        plan::workspace_bytes(problem, pass)
    }
    fn forward(&self, problem: &Problem, arguments: Forward<'_>) -> Result<()> {
        check(problem, arguments.residual.is_some())?;
        let Forward { x, residual, sum, alpha, shift, gamma, beta, y, mean, rstd, .. } = arguments;
        let in_place = x.is_none();
        let in_sum = matches!(residual, Some(Residual::InSum));
        let residual = match residual {
            Some(Residual::Apart(view)) => Some(view),
            _ => None,
        };
        let inputs = [x, residual, alpha, shift, gamma, beta];
        self.run(&inputs, vec![Some(y), sum, mean, rstd], |limits, read, written| {
            let [x, residual, alpha, shift, gamma, beta] = *read else { return Launches::default() };
            let [y, sum, mean, rstd] = *written else { return Launches::default() };
            let x = if in_place { y } else { x };
            let residual = if in_sum { sum } else { residual };
            let at = ForwardAddresses { x, residual, sum, alpha, shift, gamma, beta, y, mean, rstd };
            plan::forward(problem, &at, limits)
        });
        Ok(())
    }
    fn backward_with(
        &self,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: ViewMut<'_>,
    ) -> Result<()> {
        check(problem, arguments.dsum.is_some())?;
        let Backward { dy, x, dsum, alpha, shift, gamma, mean, rstd, .. } = arguments;
        let Backward { dx, dalpha, dshift, dgamma, dbeta, .. } = arguments;
        let in_place = dy.is_none();
        let in_dx = matches!(dsum, Some(Dsum::InDx));
        let dsum = match dsum {
            Some(Dsum::Apart(view)) => Some(view),
            _ => None,
        };
        let inputs = [dy, Some(x), dsum, alpha, shift, gamma, mean, rstd];
        let outputs = vec![dx, dalpha, dshift, dgamma, dbeta, Some(workspace)];
        self.run(&inputs, outputs, |limits, read, written| {
            let [dy, x, dsum, alpha, shift, gamma, mean, rstd] = *read else { return Launches::default() };
            let [dx, dalpha, dshift, dgamma, dbeta, workspace] = *written else {
                return Launches::default();
            };
            let dy = if in_place { dx } else { dy };
            let dsum = if in_dx { dx } else { dsum };
            let at = BackwardAddresses {
                dy,
                x,
                dsum,
                alpha,
                shift,
                gamma,
                mean,
                rstd,
                dx,
                dalpha,
                dshift,
                dgamma,
                dbeta,
                workspace,
            };
            plan::backward(problem, &at, limits)
        });
        Ok(())
    }
}
