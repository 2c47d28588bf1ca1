//! A framework's own device: several arguments in one buffer, several calls in one command buffer.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{Buffer, CommandEncoder};
use dyt::{Backward, DType, Device, Element, Forward, Op, Pass, Problem, Result};
use half::{bf16, f16};

use crate::support::{Arena, Outcome, activations, adapters, least, read, storage};

const ROWS: usize = 37;
const COLS: usize = 83;
/// Elements between the beginnings of two rows: the gap behind each row has to survive.
const STRIDE: usize = 91;

/// A 16-bit or 32-bit type that f32 values can be rounded to.
trait Stored: Element + PartialEq + std::fmt::Debug {
    fn of(value: f32) -> Self;
    fn value(self) -> f32;
}
impl Stored for f32 {
    fn of(value: f32) -> Self {
        value
    }
    fn value(self) -> f32 {
        self
    }
}
impl Stored for f16 {
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}
impl Stored for bf16 {
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}

/// A layer with everything that it reads and writes.
#[derive(Clone, Debug, PartialEq)]
struct Layer<T> {
    x: Vec<T>,
    dy: Vec<T>,
    alpha: [f32; 1],
    gamma: Vec<T>,
    beta: Vec<T>,
    y: Vec<T>,
    dx: Vec<T>,
    dalpha: [f32; 1],
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    statistics: [Vec<f32>; 2],
}

impl<T: Stored> Layer<T> {
    fn new(problem: &Problem) -> Self {
        let stored = |n, seed| activations(n, seed).into_iter().map(T::of).collect::<Vec<T>>();
        let (n, cols) = (problem.span(), problem.cols());
        Self {
            x: stored(n, 1),
            dy: stored(n, 2),
            alpha: [0.7],
            gamma: stored(cols, 3),
            beta: stored(cols, 4),
            y: stored(n, 5),
            dx: stored(n, 6),
            dalpha: [9.0],
            dgamma: vec![9.0; cols],
            dbeta: vec![9.0; cols],
            statistics: [vec![9.0; problem.statistics()], vec![9.0; problem.statistics()]],
        }
    }

    /// What the CPU makes of it.
    fn on_cpu(&self, problem: &Problem) -> Result<Self> {
        let mut layer = self.clone();
        let device = Device::open("cpu")?;
        let mut call = Forward::new(&layer.x, &mut layer.y).gamma(&layer.gamma).beta(&layer.beta);
        let [mean, rstd] = &mut layer.statistics;
        if problem.op().is_pointwise() {
            call = call.alpha(&layer.alpha);
        } else {
            call = call.rstd(&mut *rstd);
            if problem.op().has_mean() {
                call = call.mean(&mut *mean);
            }
        }
        device.forward(problem, call)?;
        let mut call = Backward::of(&layer.x).dy(&layer.dy).gamma(&layer.gamma).dx(&mut layer.dx);
        call = call.dgamma(&mut layer.dgamma).dbeta(&mut layer.dbeta);
        if problem.op().is_pointwise() {
            call = call.alpha(&layer.alpha).dalpha(&mut layer.dalpha);
        } else {
            call = call.rstd(&*rstd);
            if problem.op().has_mean() {
                call = call.mean(&*mean);
            }
        }
        device.backward(problem, call)?;
        Ok(layer)
    }
}

/// A layer in a framework's memory.
struct Placed {
    arena: Arena,
    buffer: Buffer,
    /// x, dy, alpha, gamma, beta, y, dx, dalpha, dgamma, dbeta, mean, rstd, workspace.
    at: [usize; 13],
}

impl Placed {
    fn new<T: Stored>(kernels: &WgpuKernels, problem: &Problem, layer: &Layer<T>) -> Self {
        let mut arena = Arena::default();
        let workspace = vec![f32::NAN; kernels.workspace_bytes(problem, Pass::Backward).div_ceil(4)];
        let [mean, rstd] = &layer.statistics;
        let at = [
            arena.put(&layer.x),
            arena.put(&layer.dy),
            arena.put(&layer.alpha),
            arena.put(&layer.gamma),
            arena.put(&layer.beta),
            arena.put(&layer.y),
            arena.put(&layer.dx),
            arena.put(&layer.dalpha),
            arena.put(&layer.dgamma),
            arena.put(&layer.dbeta),
            arena.put(mean),
            arena.put(rstd),
            arena.put(&workspace),
        ];
        let buffer = arena.build(kernels.device(), kernels.queue());
        Self { arena, buffer, at }
    }

    fn forward(&self, problem: &Problem) -> Result<Forward<'_>> {
        let (arena, buffer) = (&self.arena, &self.buffer);
        let [x, _, alpha, gamma, beta, y, _, _, _, _, mean, rstd, _] = self.at;
        let mut call = Forward::new(arena.view(buffer, x)?, arena.view_mut(buffer, y)?)
            .gamma(arena.view(buffer, gamma)?)
            .beta(arena.view(buffer, beta)?);
        if problem.op().is_pointwise() {
            call = call.alpha(arena.view(buffer, alpha)?);
        } else {
            call = call.rstd(arena.view_mut(buffer, rstd)?);
            if problem.op().has_mean() {
                call = call.mean(arena.view_mut(buffer, mean)?);
            }
        }
        Ok(call)
    }

    fn backward(&self, problem: &Problem) -> Result<Backward<'_>> {
        let (arena, buffer) = (&self.arena, &self.buffer);
        let [x, dy, alpha, gamma, _, _, dx, dalpha, dgamma, dbeta, mean, rstd, _] = self.at;
        let mut call = Backward::of(arena.view(buffer, x)?)
            .dy(arena.view(buffer, dy)?)
            .gamma(arena.view(buffer, gamma)?)
            .dx(arena.view_mut(buffer, dx)?)
            .dgamma(arena.view_mut(buffer, dgamma)?)
            .dbeta(arena.view_mut(buffer, dbeta)?);
        if problem.op().is_pointwise() {
            call = call.alpha(arena.view(buffer, alpha)?).dalpha(arena.view_mut(buffer, dalpha)?);
        } else {
            call = call.rstd(arena.view(buffer, rstd)?);
            if problem.op().has_mean() {
                call = call.mean(arena.view(buffer, mean)?);
            }
        }
        Ok(call)
    }

    fn record(&self, kernels: &WgpuKernels, problem: &Problem, encoder: &mut CommandEncoder) -> Result<()> {
        kernels.forward(encoder, problem, self.forward(problem)?)?;
        let workspace = self.arena.view_mut(&self.buffer, self.at[12])?;
        kernels.backward(encoder, problem, self.backward(problem)?, workspace)
    }

    /// The outputs, and a test of everything else in the buffer.
    fn outputs<T: Stored>(&self, bytes: &[u8]) -> Vec<Vec<f32>> {
        let outputs = &self.at[5..13];
        assert_eq!(self.arena.lost(bytes, outputs), None, "a byte that is no output has changed");
        let wide = |at: usize| self.arena.values::<T>(bytes, at).into_iter().map(T::value).collect();
        let [y, dx, rest @ .., _] = outputs else { return Vec::new() };
        let narrow = rest.iter().map(|&at| self.arena.values::<f32>(bytes, at));
        [wide(*y), wide(*dx)].into_iter().chain(narrow).collect()
    }
}

const OPS: [Op; 3] = [Op::Dyt, Op::LayerNorm, Op::RmsNorm];

fn problem(op: Op, dtype: DType) -> Result<Problem> {
    Problem::new(op, ROWS, COLS).dtype(dtype).row_stride(STRIDE).build()
}

fn close(got: &[f32], expected: &[f32], dtype: DType) -> bool {
    // Whether the right buffers were read and written; how exact the results are is for the list of cases.
    let relative = if dtype == DType::F32 { 1e-4 } else { 2e-2 };
    got.len() == expected.len()
        && got.iter().zip(expected).all(|(g, e)| (g - e).abs() <= relative * (1.0 + e.abs()))
}

fn one_buffer_and_one_command_buffer<T: Stored>() -> Outcome {
    for adapter in adapters() {
        let kernels = least(&adapter)?;
        for op in OPS {
            let problem = problem(op, T::DTYPE)?;
            let layer = Layer::<T>::new(&problem);
            let placed = Placed::new(&kernels, &problem, &layer);
            let mut encoder = kernels.device().create_command_encoder(&Default::default());
            placed.record(&kernels, &problem, &mut encoder)?;
            kernels.queue().submit([encoder.finish()]);
            let got = placed.outputs::<T>(&read(kernels.device(), kernels.queue(), &placed.buffer)?);
            let cpu = layer.on_cpu(&problem)?;
            let wide = |values: &[T]| values.iter().map(|v| v.value()).collect::<Vec<_>>();
            let [mean, rstd] = cpu.statistics;
            let expected =
                [wide(&cpu.y), wide(&cpu.dx), cpu.dalpha.to_vec(), cpu.dgamma, cpu.dbeta, mean, rstd];
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let name = adapter.get_info().name;
                assert!(close(got, expected, T::DTYPE), "{name} {op} output {i}: {got:?} {expected:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_layer_in_f32_lies_in_one_buffer_and_runs_from_one_command_buffer() -> Outcome {
    one_buffer_and_one_command_buffer::<f32>()
}

#[test]
fn a_layer_in_f16_lies_in_one_buffer_and_runs_from_one_command_buffer() -> Outcome {
    one_buffer_and_one_command_buffer::<f16>()
}

#[test]
fn a_layer_in_bf16_lies_in_one_buffer_and_runs_from_one_command_buffer() -> Outcome {
    one_buffer_and_one_command_buffer::<bf16>()
}

#[test]
fn a_compute_pass_of_the_callers_gives_the_same_bits_and_compiles_nothing_again() -> Outcome {
    for adapter in adapters() {
        let kernels = least(&adapter)?;
        let (device, queue) = (kernels.device(), kernels.queue());
        let problem = problem(Op::LayerNorm, DType::Bf16)?;
        let layer = Layer::<bf16>::new(&problem);
        let [one, two] = [(); 2].map(|()| Placed::new(&kernels, &problem, &layer));
        let mut encoder = device.create_command_encoder(&Default::default());
        one.record(&kernels, &problem, &mut encoder)?;
        let compiled = kernels.compiled();
        let mut pass = encoder.begin_compute_pass(&Default::default());
        kernels.forward(&mut pass, &problem, two.forward(&problem)?)?;
        let workspace = two.arena.view_mut(&two.buffer, two.at[12])?;
        kernels.backward(&mut pass, &problem, two.backward(&problem)?, workspace)?;
        drop(pass);
        queue.submit([encoder.finish()]);
        assert!(compiled > 0 && kernels.compiled() == compiled);
        let [one, two] =
            [one, two].map(|placed| read(device, queue, &placed.buffer).map(|b| placed.outputs::<bf16>(&b)));
        assert_eq!(one?, two?);
    }
    Ok(())
}

#[test]
fn what_has_been_recorded_keeps_its_parameters() -> Outcome {
    for adapter in adapters() {
        let kernels = least(&adapter)?;
        let (device, queue) = (kernels.device(), kernels.queue());
        let mut arena = Arena::default();
        let x = arena.put(&activations(6 * 50, 1));
        let y = [1e-5_f32, 1.0].map(|eps| (eps, arena.put(&[0.0_f32; 6 * 50])));
        let buffer = arena.build(device, queue);
        let mut encoder = device.create_command_encoder(&Default::default());
        for (eps, y) in y {
            let problem = Problem::new(Op::RmsNorm, 6, 50).eps(eps).build()?;
            let call = Forward::new(arena.view(&buffer, x)?, arena.view_mut(&buffer, y)?);
            kernels.forward(&mut encoder, &problem, call)?;
        }
        queue.submit([encoder.finish()]);
        let bytes = read(device, queue, &buffer)?;
        for (eps, y) in y {
            let mut expected = vec![0.0_f32; 6 * 50];
            let problem = Problem::new(Op::RmsNorm, 6, 50).eps(eps).build()?;
            Device::open("cpu")?.forward(&problem, Forward::new(&activations(6 * 50, 1), &mut expected))?;
            assert!(close(&arena.values(&bytes, y), &expected, DType::F32), "eps {eps}");
        }
    }
    Ok(())
}

#[test]
fn nothing_is_submitted_by_recording() -> Outcome {
    for adapter in adapters() {
        let kernels = least(&adapter)?;
        let (device, queue) = (kernels.device(), kernels.queue());
        let problem = Problem::new(Op::Dyt, 4, 4).build()?;
        let mut arena = Arena::default();
        let (x, y) = (arena.put(&[1.0_f32; 16]), arena.put(&[5.0_f32; 16]));
        let buffer = arena.build(device, queue);
        let alpha = storage(device, 4);
        let mut encoder = device.create_command_encoder(&Default::default());
        let call = Forward::new(arena.view(&buffer, x)?, arena.view_mut(&buffer, y)?);
        kernels.forward(
            &mut encoder,
            &problem,
            call.alpha(dyt::View::from_wgpu(&alpha, 0, 1, DType::F32)?),
        )?;
        let values = |bytes: &[u8]| arena.values::<f32>(bytes, y);
        assert_eq!(values(&read(device, queue, &buffer)?), [5.0; 16]);
        queue.submit([encoder.finish()]);
        assert_eq!(values(&read(device, queue, &buffer)?), [0.0; 16]);
    }
    Ok(())
}
