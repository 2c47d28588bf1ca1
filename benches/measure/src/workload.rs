//! The ops on buffers that are allocated once, aligned, filled with random values and touched before they are timed.

use std::time::Duration;

use dyt::half::{bf16, f16};
use dyt::{Backward, Buffer, DType, Device, Element, Forward, Op, Pass, Problem, Quant, Result, ViewMut};
use dyt_conformance::Random;

use crate::{Baseline, Form, Point};

/// The same random values in every run.
const SEED: u64 = 20_250_313;

/// The tensors that every op of one shape and dtype can share: x, dy, and one output for y and dx.
#[derive(Debug)]
struct Tensors {
    x: Buffer,
    dy: Buffer,
    out: Buffer,
    added: Option<Added>,
    /// y where it is quantised.
    quantised: Option<Buffer>,
    /// Elements that are computed: those of dy and of y.
    elements: usize,
}

/// The tensors of an addition.
#[derive(Debug)]
struct Added {
    /// The residual of a forward, dsum of a backward.
    term: Buffer,
    sum: Buffer,
}

/// The host memory of [`Tensors`], for the baselines.
#[derive(Debug)]
pub(crate) struct HostBytes<'a> {
    pub(crate) x: &'a [u8],
    pub(crate) dy: &'a [u8],
    pub(crate) out: &'a mut [u8],
}

impl Tensors {
    /// Allocates for the point, and fills the inputs with random values.
    fn new(device: &Device, point: Point, seed: u64) -> Result<Self> {
        let (dtype, elements) = (point.dtype, point.elements());
        let len = elements * point.form.spread();
        let mut random = Random::new(seed);
        let mut values = |len| filled(device, dtype, len, || activation(&mut random));
        let (x, dy) = (values(len)?, values(elements)?);
        // Written, not only allocated: a page's first touch is not to be timed.
        let ones = || filled(device, dtype, len, || 1.0);
        let added = match point.form {
            Form::Residual => Some(Added { term: values(len)?, sum: ones()? }),
            _ => None,
        };
        let quantised = match point.form.quantises() {
            true => Some(device.zeros(DType::Quant(Quant::F8E4M3), elements)?),
            false => None,
        };
        Ok(Self { x, dy, out: ones()?, added, quantised, elements })
    }

    /// The bytes of the three tensors, if the device's memory is the host's.
    fn host_bytes(&mut self) -> Option<HostBytes<'_>> {
        let n = self.elements * self.x.dtype().size();
        let (x, dy, out) = (bytes(&self.x)?, bytes(&self.dy)?, bytes_mut(&mut self.out)?);
        Some(HostBytes { x: x.get(..n)?, dy, out: out.get_mut(..n)? })
    }
}

/// What belongs to one op beside the tensors: parameters, gradients of parameters, statistics, workspace.
#[derive(Debug)]
struct Layer {
    device: Device,
    problem: Problem,
    alpha: Buffer,
    shift: Buffer,
    gamma: Buffer,
    beta: Buffer,
    mean: Buffer,
    rstd: Buffer,
    scale: Buffer,
    /// Of each row, where they are to be found.
    scales: Option<Buffer>,
    dalpha: Buffer,
    dshift: Buffer,
    dgamma: Buffer,
    dbeta: Buffer,
    workspace: Buffer,
}

impl Layer {
    /// Allocates and fills all of it. The statistics of the norms are those of the last [`Self::forward`].
    fn new(device: &Device, point: Point, op: Op, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let problem = point.problem(op)?;
        let (params, statistics, param) = (problem.params(), problem.statistics(), problem.param_dtype());
        let workspace =
            device.workspace_bytes(&problem.with_quant(None), Pass::Backward).div_ceil(DType::F32.size());
        let ones = |len| filled(device, DType::F32, len, || 1.0);
        Ok(Self {
            problem,
            // The initial values of the papers: alpha 0.5, shift near 0.
            alpha: device.upload(&0.5_f32)?,
            shift: device.upload(&0.1_f32)?,
            gamma: filled(device, param, params, || 1.0 + 0.1 * activation(&mut random))?,
            beta: filled(device, param, params, || 0.1 * activation(&mut random))?,
            mean: ones(statistics)?,
            rstd: ones(statistics)?,
            // Saturates some values, as a scale that was found beforehand does.
            scale: device.upload(&0.01_f32)?,
            scales: if point.form == Form::QuantDynamic { Some(ones(statistics)?) } else { None },
            dalpha: ones(1)?,
            dshift: ones(1)?,
            dgamma: ones(params)?,
            dbeta: ones(params)?,
            workspace: ones(workspace)?,
            device: device.clone(),
        })
    }

    /// From x to the output, with every parameter; the norms save their statistics, as in training.
    fn forward(&mut self, tensors: &mut Tensors) -> Result<()> {
        let Tensors { x, out, added, quantised, elements, .. } = tensors;
        let quantises = quantised.is_some();
        let y = quantised.as_mut().map(ViewMut::from).or_else(|| out.view_mut(0..*elements));
        let Some(y) = y else { return Ok(()) };
        let mut call = Forward::new(&*x, y).gamma(&self.gamma).beta(&self.beta);
        if let Some(added) = added {
            call = call.residual(&added.term).sum(&mut added.sum);
        }
        call = match &mut self.scales {
            Some(scales) => call.scales(scales),
            None if quantises => call.scale(&self.scale),
            None => call,
        };
        let call = match self.problem.op() {
            Op::Dyt => call.alpha(&self.alpha),
            Op::Derf => call.alpha(&self.alpha).shift(&self.shift),
            Op::LayerNorm => call.mean(&mut self.mean).rstd(&mut self.rstd),
            Op::RmsNorm => call.rstd(&mut self.rstd),
        };
        self.device.forward(&self.problem, call)
    }

    /// From dy and x to the output as dx, with every gradient; the norms take the statistics that were saved.
    fn backward(&mut self, tensors: &mut Tensors) -> Result<()> {
        let mut call = Backward::of(&tensors.x)
            .dy(&tensors.dy)
            .gamma(&self.gamma)
            .dx(&mut tensors.out)
            .dgamma(&mut self.dgamma)
            .dbeta(&mut self.dbeta);
        if let Some(added) = &tensors.added {
            call = call.dsum(&added.term);
        }
        let call = match self.problem.op() {
            Op::Dyt => call.alpha(&self.alpha).dalpha(&mut self.dalpha),
            Op::Derf => {
                let call = call.alpha(&self.alpha).dalpha(&mut self.dalpha);
                call.shift(&self.shift).dshift(&mut self.dshift)
            }
            Op::LayerNorm => call.mean(&self.mean).rstd(&self.rstd),
            Op::RmsNorm => call.rstd(&self.rstd),
        };
        self.device.backward_with(&self.problem, call, &mut self.workspace)
    }

    /// One of the two.
    fn run(&mut self, pass: Pass, tensors: &mut Tensors) -> Result<()> {
        match pass {
            Pass::Forward => self.forward(tensors),
            Pass::Backward => self.backward(tensors),
        }
    }
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contender {
    /// Bytes moved without computing anything.
    Baseline(Baseline),
    /// A pass of an op.
    Op(Op, Pass),
}

/// Every op of one point on shared tensors, warm.
#[derive(Debug)]
pub struct Workload {
    device: Device,
    tensors: Tensors,
    /// In the order of [`Op::ALL`].
    layers: Vec<Layer>,
}

impl Workload {
    /// Allocates, fills, and runs each forward once, so that statistics are there and every page has been touched.
    ///
    /// # Errors
    /// [`dyt::Error::OutOfMemory`].
    pub fn new(device: &Device, point: Point) -> Result<Self> {
        let mut tensors = Tensors::new(device, point, SEED)?;
        let mut layers = Vec::new();
        for op in Op::ALL {
            let mut layer = Layer::new(device, point, op, SEED)?;
            layer.forward(&mut tensors)?;
            layers.push(layer);
        }
        Ok(Self { device: device.clone(), tensors, layers })
    }

    /// Runs a contender so many times on the current rayon pool, and tells how long that took, as
    /// [`Device::elapsed`] does.
    ///
    /// # Errors
    /// What [`Device::forward`], [`Device::backward_with`] and [`Device::copy`] return.
    pub fn time(&mut self, contender: Contender, calls: u64) -> Result<Duration> {
        let (device, tensors) = (&self.device, &mut self.tensors);
        match contender {
            Contender::Op(op, pass) => {
                let Some(layer) = self.layers.iter_mut().find(|layer| layer.problem.op() == op) else {
                    return Ok(Duration::ZERO);
                };
                device.elapsed(|| (0..calls).try_for_each(|_| layer.run(pass, tensors)))
            }
            Contender::Baseline(Baseline::DeviceCopy) => {
                device.elapsed(|| (0..calls).try_for_each(|_| device.copy(&tensors.x, &mut tensors.out)))
            }
            Contender::Baseline(baseline) => {
                let Some(mut host) = tensors.host_bytes() else { return Ok(Duration::ZERO) };
                device.elapsed(|| {
                    (0..calls).for_each(|_| baseline.run(&mut host));
                    Ok(())
                })
            }
        }
    }
}

/// A buffer of `len` values of `next`, rounded to `dtype`.
fn filled(device: &Device, dtype: DType, len: usize, next: impl FnMut() -> f32) -> Result<Buffer> {
    match dtype {
        DType::F32 => fill(device, len, next, |v| v),
        DType::F16 => fill(device, len, next, f16::from_f32),
        DType::Bf16 => fill(device, len, next, bf16::from_f32),
        DType::Quant(_) => device.zeros(dtype, len),
    }
}

fn fill<T: Element>(
    device: &Device,
    len: usize,
    mut next: impl FnMut() -> f32,
    round: impl Fn(f32) -> T,
) -> Result<Buffer> {
    let mut buffer = device.zeros(T::DTYPE, len)?;
    if let Some(slice) = buffer.as_mut_slice() {
        slice.fill_with(|| round(next()));
        return Ok(buffer);
    }
    // Memory that the host does not see is filled from a copy.
    let values: Vec<T> = core::iter::repeat_with(|| round(next())).take(len).collect();
    device.upload(&values)
}

fn bytes(buffer: &Buffer) -> Option<&[u8]> {
    match buffer.dtype() {
        DType::F32 => buffer.as_slice::<f32>().map(bytemuck::cast_slice),
        DType::F16 => buffer.as_slice::<f16>().map(bytemuck::cast_slice),
        DType::Bf16 => buffer.as_slice::<bf16>().map(bytemuck::cast_slice),
        DType::Quant(_) => None,
    }
}

fn bytes_mut(buffer: &mut Buffer) -> Option<&mut [u8]> {
    match buffer.dtype() {
        DType::F32 => buffer.as_mut_slice::<f32>().map(bytemuck::cast_slice_mut),
        DType::F16 => buffer.as_mut_slice::<f16>().map(bytemuck::cast_slice_mut),
        DType::Bf16 => buffer.as_mut_slice::<bf16>().map(bytemuck::cast_slice_mut),
        DType::Quant(_) => None,
    }
}

/// A value spread like activations, variance 1 and never 0: the sum of four random bytes, because a gigabyte of them
/// has to be there in seconds.
fn activation(random: &mut Random) -> f32 {
    let [a, b, c, d, ..] = random.next_u64().to_be_bytes().map(i32::from);
    // The sum is a whole number from 0 to 1020 with variance 4 · (256² − 1)/12; the half keeps it from the middle.
    ((a + b + c + d - 510) as f32 + 0.5) / 147.8
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyt::Level;
    use dyt::float8::F8E4M3;

    fn device() -> Result<Device> {
        Device::cpu(Level::best())
    }

    #[test]
    fn every_op_runs_in_every_form_and_dtype() -> Result<()> {
        for (dtype, form) in DType::ALL.into_iter().flat_map(|dtype| Form::ALL.map(|form| (dtype, form))) {
            let mut workload = Workload::new(&device()?, Point::new(16, 37, dtype).with(form))?;
            for (op, &pass) in
                Op::ALL.into_iter().flat_map(|op| form.passes().iter().map(move |pass| (op, pass)))
            {
                clear(&mut workload.tensors);
                assert!(workload.time(Contender::Op(op, pass), 1)? > Duration::ZERO);
                let written =
                    |values: &[u8], size| values.chunks(size).any(|v| v.iter().any(|byte| *byte != 0));
                let out = match &workload.tensors.quantised {
                    Some(y) => written(bytemuck::cast_slice(y.as_slice::<F8E4M3>().expect("host memory")), 1),
                    None => written(bytes(&workload.tensors.out).expect("host memory"), dtype.size()),
                };
                assert!(out, "{op} {pass} {dtype} {form}");
            }
            let Some(Added { sum, .. }) = workload.tensors.added else { continue };
            // What no forward has written is 1 everywhere.
            let sum = bytes(&sum).expect("the CPU's memory is the host's");
            assert_ne!(sum[..dtype.size()], sum[dtype.size()..2 * dtype.size()], "{dtype}");
        }
        Ok(())
    }

    fn clear(tensors: &mut Tensors) {
        bytes_mut(&mut tensors.out).expect("host memory").fill(0);
        if let Some(y) = &mut tensors.quantised {
            y.as_mut_slice::<F8E4M3>().expect("host memory").fill(F8E4M3::from_bits(0));
        }
    }

    #[test]
    fn baselines_run_as_often_as_they_are_told() -> Result<()> {
        let mut workload = Workload::new(&device()?, Point::new(64, 64, DType::F32))?;
        let baselines = Baseline::on(&workload.device).iter().copied();
        for baseline in baselines.chain([Baseline::DeviceCopy]) {
            let mut host = workload.tensors.host_bytes().expect("the CPU's memory is the host's");
            host.out.fill(0);
            workload.time(Contender::Baseline(baseline), 0)?;
            host = workload.tensors.host_bytes().expect("the CPU's memory is the host's");
            assert!(host.out.iter().all(|byte| *byte == 0), "{baseline:?}");
            workload.time(Contender::Baseline(baseline), 2)?;
            host = workload.tensors.host_bytes().expect("the CPU's memory is the host's");
            assert!(host.out.iter().any(|byte| *byte != 0), "{baseline:?}");
        }
        Ok(())
    }

    #[test]
    fn the_backward_gives_every_gradient() -> Result<()> {
        let mut workload = Workload::new(&device()?, Point::new(9, 64, DType::F32))?;
        for op in Op::ALL {
            workload.time(Contender::Op(op, Pass::Backward), 1)?;
        }
        for layer in &workload.layers {
            let op = layer.problem.op();
            let changed =
                |buffer: &Buffer| buffer.as_slice::<f32>().is_some_and(|s| s.iter().any(|v| *v != 1.0));
            assert!(changed(&layer.dgamma) && changed(&layer.dbeta), "{op}");
            assert_eq!(changed(&layer.dalpha), op.is_pointwise(), "{op}");
            assert_eq!(changed(&layer.dshift), op.has_shift(), "{op}");
            assert_eq!(changed(&layer.mean), op.has_mean(), "{op}");
        }
        Ok(())
    }

    #[test]
    fn values_are_random_of_unit_size_and_never_zero() {
        let mut random = Random::new(3);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(activation(&mut random))).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        assert!(values.iter().all(|v| *v != 0.0) && values[0] != values[1]);
    }
}
