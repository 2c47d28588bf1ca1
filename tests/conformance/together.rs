//! Calls whose arguments all lie in one buffer of wgpu, for which kernels have variants: a target of the list of cases.

use dyt::float8::{F8E4M3, F8E5M2};
use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{Buffer as Memory, CommandEncoder};
use dyt::{
    Backend, Backward, Buffer, DType, Device, Dsum, Element, Error, Forward, Pass, Problem, Quant, Residual,
    Result, View, ViewMut,
};
use dyt_conformance::Target;
use half::{bf16, f16};

use crate::support::{Arena, read};

/// Every argument begins at a multiple of this many bytes, so that kernels may read whole blocks.
const BLOCK: usize = 16;

/// The cases hold host memory. Each call copies its arguments into one new buffer, and its outputs back.
pub(crate) struct Together {
    kernels: WgpuKernels,
    host: Device,
}

/// The arguments of one call, by their numbers in the arena.
struct Arguments<'a> {
    host: &'a Device,
    arena: Arena,
    outputs: Vec<(usize, ViewMut<'a>)>,
}

impl<'a> Arguments<'a> {
    fn put<T: Element>(&mut self, view: View<'_>) -> Result<usize> {
        let mut values = vec![T::zeroed(); view.len()];
        self.host.read(view, &mut values)?;
        Ok(self.arena.put_at(BLOCK, &values))
    }

    fn input(&mut self, view: Option<View<'_>>) -> Result<Option<usize>> {
        let put = |view: View<'_>| match view.dtype() {
            DType::F32 => self.put::<f32>(view),
            DType::F16 => self.put::<f16>(view),
            DType::Bf16 => self.put::<bf16>(view),
            DType::Quant(Quant::F8E4M3) => self.put::<F8E4M3>(view),
            DType::Quant(Quant::F8E5M2) => self.put::<F8E5M2>(view),
            DType::Quant(Quant::I8) => self.put::<i8>(view),
        };
        view.map(put).transpose()
    }

    /// With what the output holds before the call.
    fn output(&mut self, view: Option<ViewMut<'a>>) -> Result<Option<usize>> {
        let at = self.input(view.as_ref().map(ViewMut::as_view))?;
        self.outputs.extend(at.zip(view));
        Ok(at)
    }

    fn fetch(self, bytes: &[u8]) -> Result<()> {
        let written: Vec<_> = self.outputs.iter().map(|(at, _)| *at).collect();
        if let Some(at) = self.arena.lost(bytes, &written) {
            return Err(failed(format!("byte {at}, which is no output's, was overwritten")));
        }
        for (at, target) in self.outputs {
            match target.dtype() {
                DType::F32 => self.host.write(&self.arena.values::<f32>(bytes, at), target),
                DType::F16 => self.host.write(&self.arena.values::<f16>(bytes, at), target),
                DType::Bf16 => self.host.write(&self.arena.values::<bf16>(bytes, at), target),
                DType::Quant(Quant::F8E4M3) => {
                    self.host.write(&self.arena.values::<F8E4M3>(bytes, at), target)
                }
                DType::Quant(Quant::F8E5M2) => {
                    self.host.write(&self.arena.values::<F8E5M2>(bytes, at), target)
                }
                DType::Quant(Quant::I8) => self.host.write(&self.arena.values::<i8>(bytes, at), target),
            }?;
        }
        Ok(())
    }
}

fn failed(message: String) -> Error {
    Error::Driver { backend: Backend::Wgpu, message }
}

/// Where the arguments of a call lie once they are in one buffer.
struct Placed<'a> {
    arena: &'a Arena,
    memory: &'a Memory,
}

impl<'a> Placed<'a> {
    fn read(&self, at: Option<usize>) -> Result<Option<View<'a>>> {
        at.map(|at| self.arena.view(self.memory, at)).transpose()
    }
    fn write(&self, at: Option<usize>) -> Result<Option<ViewMut<'a>>> {
        at.map(|at| self.arena.view_mut(self.memory, at)).transpose()
    }
}

impl Together {
    pub(crate) fn new(kernels: &WgpuKernels) -> Result<Self> {
        Ok(Self { kernels: kernels.clone(), host: Device::open("cpu")? })
    }

    fn arguments(&self) -> Arguments<'_> {
        Arguments { host: &self.host, arena: Arena::default(), outputs: Vec::new() }
    }

    /// Runs what `record` records of the arguments.
    fn run(
        &self,
        mut arguments: Arguments<'_>,
        record: impl FnOnce(&Placed<'_>, &mut CommandEncoder) -> Result<()>,
    ) -> Result<()> {
        let (device, queue) = (self.kernels.device(), self.kernels.queue());
        let memory = arguments.arena.build(device, queue);
        let mut encoder = device.create_command_encoder(&Default::default());
        record(&Placed { arena: &arguments.arena, memory: &memory }, &mut encoder)?;
        queue.submit([encoder.finish()]);
        let bytes = read(device, queue, &memory).map_err(|error| failed(error.to_string()))?;
        arguments.fetch(&bytes)
    }
}

impl Target for Together {
    fn name(&self) -> String {
        format!("{} in one buffer", self.kernels.device().adapter_info().name)
    }
    fn backend(&self) -> Backend {
        Backend::Wgpu
    }
    fn upload(&self, source: View<'_>) -> Result<Buffer> {
        self.host.upload(source)
    }
    fn read(&self, source: &Buffer, target: ViewMut<'_>) -> Result<()> {
        self.host.read(source, target)
    }
    fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize {
        self.kernels.workspace_bytes(problem, pass)
    }

    fn forward(&self, problem: &Problem, call: Forward<'_>) -> Result<()> {
        let mut all = self.arguments();
        let (x, alpha, shift) = (all.input(call.x)?, all.input(call.alpha)?, all.input(call.shift)?);
        let (gamma, beta) = (all.input(call.gamma)?, all.input(call.beta)?);
        let (adds, residual) = match call.residual {
            Some(Residual::Apart(view)) => (true, all.input(Some(view))?),
            Some(Residual::InSum) => (true, None),
            None => (false, None),
        };
        let sum = all.output(call.sum)?;
        let y = all.output(Some(call.y))?;
        let (mean, rstd) = (all.output(call.mean)?, all.output(call.rstd)?);
        let (scale, scales) = (all.input(call.scale)?, all.output(call.scales)?);
        self.run(all, |at, encoder| {
            let y = at.write(y)?.ok_or_else(|| failed("a forward has a y".to_owned()))?;
            let mut call = Forward::in_place(y);
            call.x = at.read(x)?;
            call.residual =
                adds.then(|| Ok(at.read(residual)?.map_or(Residual::InSum, Residual::Apart))).transpose()?;
            call.sum = at.write(sum)?;
            call.alpha = at.read(alpha)?;
            call.shift = at.read(shift)?;
            call.gamma = at.read(gamma)?;
            call.beta = at.read(beta)?;
            call.mean = at.write(mean)?;
            call.rstd = at.write(rstd)?;
            call.scale = at.read(scale)?;
            call.scales = at.write(scales)?;
            self.kernels.forward(encoder, problem, call)
        })
    }

    fn backward_with(&self, problem: &Problem, call: Backward<'_>, workspace: ViewMut<'_>) -> Result<()> {
        let mut all = self.arguments();
        let (dy, x) = (all.input(call.dy)?, all.input(Some(call.x))?);
        let (adds, dsum) = match call.dsum {
            Some(Dsum::Apart(view)) => (true, all.input(Some(view))?),
            Some(Dsum::InDx) => (true, None),
            None => (false, None),
        };
        let (alpha, shift, gamma) = (all.input(call.alpha)?, all.input(call.shift)?, all.input(call.gamma)?);
        let (mean, rstd) = (all.input(call.mean)?, all.input(call.rstd)?);
        let (dx, dalpha, dshift) = (all.output(call.dx)?, all.output(call.dalpha)?, all.output(call.dshift)?);
        let (dgamma, dbeta) = (all.output(call.dgamma)?, all.output(call.dbeta)?);
        let workspace = all.output(Some(workspace))?;
        self.run(all, |at, encoder| {
            let missing = || failed("a backward has an x and a workspace".to_owned());
            let x = at.read(x)?.ok_or_else(missing)?;
            // dy only stands for the field that in-place calls leave open.
            let mut call = Backward::of(x).dy(x);
            call.dy = at.read(dy)?;
            call.dsum = adds.then(|| Ok(at.read(dsum)?.map_or(Dsum::InDx, Dsum::Apart))).transpose()?;
            call.alpha = at.read(alpha)?;
            call.shift = at.read(shift)?;
            call.gamma = at.read(gamma)?;
            call.mean = at.read(mean)?;
            call.rstd = at.read(rstd)?;
            call.dx = at.write(dx)?;
            call.dalpha = at.write(dalpha)?;
            call.dshift = at.write(dshift)?;
            call.dgamma = at.write(dgamma)?;
            call.dbeta = at.write(dbeta)?;
            let workspace = at.write(workspace)?.ok_or_else(missing)?;
            self.kernels.backward(encoder, problem, call, workspace)
        })
    }
}
