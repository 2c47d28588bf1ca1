//! One training step of a DyT layer on an NVIDIA GPU: everything stays on the device, and no call of the step allocates
//! or waits.
//!
//! Run it with `cargo run --release --example cuda_train_step`. Without a GPU it says why it cannot run.

use std::process::ExitCode;
use std::time::Duration;

use dyt::{Backward, Buffer, DType, Device, Error, Forward, Op, Pass, Problem, Result};

const ROWS: usize = 16_384;
const COLS: usize = 1024;
const STEPS: u32 = 20;

/// The layer's tensors on the device, and the gradients of its parameters.
struct Layer {
    x: Buffer,
    y: Buffer,
    dy: Buffer,
    alpha: Buffer,
    gamma: Buffer,
    beta: Buffer,
    dalpha: Buffer,
    dgamma: Buffer,
    dbeta: Buffer,
    workspace: Buffer,
}

impl Layer {
    fn new(device: &Device, problem: &Problem) -> Result<Self> {
        let values = |scale: f32| -> Vec<f32> {
            (0..ROWS * COLS).map(|i| scale * ((i % 1009) as f32 / 504.0 - 1.0)).collect()
        };
        let floats = device.workspace_bytes(problem, Pass::Backward) / DType::F32.size();
        Ok(Self {
            x: device.upload(&values(3.0))?,
            y: device.zeros(DType::F32, ROWS * COLS)?,
            dy: device.upload(&values(0.01))?,
            alpha: device.upload(&0.5_f32)?,
            gamma: device.upload(&[1.0_f32; COLS])?,
            beta: device.upload(&[0.0_f32; COLS])?,
            dalpha: device.zeros(DType::F32, 1)?,
            dgamma: device.zeros(DType::F32, COLS)?,
            dbeta: device.zeros(DType::F32, COLS)?,
            workspace: device.zeros(DType::F32, floats)?,
        })
    }

    /// The forward, and the backward that turns dy into dx where it stands.
    fn step(&mut self, device: &Device, problem: &Problem) -> Result<()> {
        let forward =
            Forward::new(&self.x, &mut self.y).alpha(&self.alpha).gamma(&self.gamma).beta(&self.beta);
        device.forward(problem, forward)?;
        let backward = Backward::of(&self.x)
            .in_place(&mut self.dy)
            .alpha(&self.alpha)
            .gamma(&self.gamma)
            .dalpha(&mut self.dalpha)
            .dgamma(&mut self.dgamma)
            .dbeta(&mut self.dbeta);
        device.backward_with(problem, backward, &mut self.workspace)
    }
}

fn train(device: &Device) -> Result<()> {
    let problem = Problem::new(Op::Dyt, ROWS, COLS).build()?;
    let mut layer = Layer::new(device, &problem)?;
    layer.step(device, &problem)?;
    let mut dalpha = 0.0_f32;
    device.read(&layer.dalpha, &mut dalpha)?;
    let took = device.elapsed(|| (0..STEPS).try_for_each(|_| layer.step(device, &problem)))?;
    let each: Duration = took / STEPS;
    // Five tensors are read or written: x twice, y, dy and dx.
    let bytes = 5 * ROWS * COLS * DType::F32.size();
    println!("{}, {}", device.name(), device.description());
    println!(
        "{ROWS} × {COLS}: dalpha {dalpha}, {each:?} a step, {:.0} GB/s",
        bytes as f64 / each.as_secs_f64() / 1e9
    );
    Ok(())
}

fn main() -> ExitCode {
    let outcome = match Device::open("cuda") {
        Ok(device) => train(&device),
        Err(Error::BackendUnavailable { reason, .. }) => {
            println!("this example needs an NVIDIA GPU: {reason}");
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
