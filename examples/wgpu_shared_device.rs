//! A framework's own wgpu device: the kernels are recorded into its encoder, on its buffers, between its own commands.
//!
//! One buffer holds every tensor of a DyT layer. Forward and backward go into one command buffer with the copy that
//! brings the results to the host, so that there is one submission and one wait. Run it with
//! `cargo run --release --example wgpu_shared_device`, and with the part of an adapter's name behind it to choose one.

use std::error::Error;

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{self, BufferUsages};
use dyt::{Backward, DType, Forward, Op, Pass, Problem, View, ViewMut};

const ROWS: usize = 256;
const COLS: usize = 384;
const ALPHA: f32 = 0.5;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(adapter) = adapter(std::env::args().nth(1).as_deref()) else {
        println!("no adapter of this machine has that name, or there is none");
        return Ok(());
    };
    println!("on {}", adapter.get_info().name);
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & WgpuKernels::optional_features(),
        required_limits: WgpuKernels::required_limits(),
        ..Default::default()
    }))?;
    let kernels = WgpuKernels::new(&device, &queue)?;
    let problem = Problem::new(Op::Dyt, ROWS, COLS).build()?;

    // x, dy, y, dx, then alpha, dalpha, dgamma and gamma: byte offsets in one buffer.
    let (tensor, row) = ((ROWS * COLS * 4) as u64, (COLS * 4) as u64);
    let [x, dy, y, dx, alpha] = [0, 1, 2, 3, 4].map(|i| i * tensor);
    let (dalpha, dgamma, gamma) = (alpha + 4, alpha + 8, alpha + 8 + row);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("layer"),
        size: gamma + row,
        usage: BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let workspace = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("workspace"),
        size: (kernels.workspace_bytes(&problem, Pass::Backward) as u64).max(4),
        usage: BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let input: Vec<f32> = (0..ROWS * COLS).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
    queue.write_buffer(&buffer, x, bytemuck::cast_slice(&input));
    queue.write_buffer(&buffer, dy, bytemuck::cast_slice(&vec![1.0_f32; ROWS * COLS]));
    queue.write_buffer(&buffer, alpha, bytemuck::cast_slice(&[ALPHA]));
    queue.write_buffer(&buffer, gamma, bytemuck::cast_slice(&vec![1.0_f32; COLS]));

    let read = |offset, len| View::from_wgpu(&buffer, offset, len, DType::F32);
    let write = |offset, len| ViewMut::from_wgpu(&buffer, offset, len, DType::F32);
    let n = ROWS * COLS;
    let mut encoder = device.create_command_encoder(&Default::default());
    let forward = Forward::new(read(x, n)?, write(y, n)?).alpha(read(alpha, 1)?).gamma(read(gamma, COLS)?);
    kernels.forward(&mut encoder, &problem, forward)?;
    let backward = Backward::of(read(x, n)?)
        .dy(read(dy, n)?)
        .alpha(read(alpha, 1)?)
        .gamma(read(gamma, COLS)?)
        .dx(write(dx, n)?)
        .dalpha(write(dalpha, 1)?)
        .dgamma(write(dgamma, COLS)?);
    let sums = ViewMut::from_wgpu(&workspace, 0, (workspace.size() / 4) as usize, DType::F32)?;
    kernels.backward(&mut encoder, &problem, backward, sums)?;

    let results = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("results"),
        size: buffer.size(),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    encoder.copy_buffer_to_buffer(&buffer, 0, &results, 0, buffer.size());
    queue.submit([encoder.finish()]);
    results.map_async(wgpu::MapMode::Read, .., |_| {});
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let bytes = results.get_mapped_range(..)?;
    let values = |offset: u64| -> Vec<f32> { bytemuck::pod_collect_to_vec(&bytes[offset as usize..]) };
    report(&input, &values(y)[..n], values(dalpha)[0], &values(dgamma)[..COLS])
}

/// The first adapter whose name contains that, or the first one.
fn adapter(name: Option<&str>) -> Option<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let part = name.unwrap_or_default().to_lowercase();
    adapters.into_iter().find(|adapter| adapter.get_info().name.to_lowercase().contains(&part))
}

/// Compares with the formulas in f64, and fails where they disagree.
fn report(x: &[f32], y: &[f32], dalpha: f32, dgamma: &[f32]) -> Result<(), Box<dyn Error>> {
    let tanh = |x: f32| (f64::from(ALPHA) * f64::from(x)).tanh();
    let worst = x.iter().zip(y).map(|(&x, &y)| (tanh(x) - f64::from(y)).abs()).fold(0.0, f64::max);
    let exact_dalpha: f64 = x.iter().map(|&x| f64::from(x) * (1.0 - tanh(x).powi(2))).sum();
    let exact_dgamma: f64 = x.iter().step_by(COLS).map(|&x| tanh(x)).sum();
    println!("y: {worst:.1e} from tanh(alpha x) at most");
    println!(
        "dalpha: {dalpha}, exactly {exact_dalpha:.4}; dgamma of the first column: {}, exactly {exact_dgamma:.4}",
        dgamma[0]
    );
    let near = |got: f32, exact: f64| (f64::from(got) - exact).abs() <= 1e-3 * (1.0 + exact.abs());
    if worst < 1e-5 && near(dalpha, exact_dalpha) && near(dgamma[0], exact_dgamma) {
        Ok(())
    } else {
        Err("the layer is not what the formulas say".into())
    }
}
