//! From the source of a kernel to its result, on every adapter of this machine.

use ::wgpu::{CommandEncoderDescriptor, DeviceDescriptor, Queue};

use super::super::pipeline::{Access, Pipelines};
use super::super::record::{Bound, Record, Step, prepare};
use super::super::{adapter, buffer};
use crate::{Error, Result};

/// y[i] = factor · x[i], each through the number of its invocation.
const SCALE: &str = "
    struct Params { factor: f32, n: u32, }
    @group(0) @binding(0) var<uniform> p: Params;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < p.n { y[id.x] = p.factor * x[id.x]; }
    }";

/// A device on each adapter of this machine: software ones by their names, and the best of hardware.
fn devices() -> Vec<(String, ::wgpu::Device, Queue)> {
    let software = adapter::software_names();
    let names = software.iter().map(|name| Some(name.as_str())).chain([None]);
    let open = |name: Option<&str>| {
        let adapter = adapter::choose(name).ok()?;
        let name = adapter::canonical(&adapter.get_info());
        let (device, queue) =
            pollster::block_on(adapter.request_device(&DeviceDescriptor::default())).ok()?;
        Some((name, device, queue))
    };
    names.filter_map(open).collect()
}

#[test]
fn a_kernel_runs_with_the_parameters_that_were_recorded() -> Result<()> {
    for (name, device, queue) in devices() {
        let pipelines = Pipelines::new();
        let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let input = buffer::allocate(&device, size_of_val(x.as_slice()))?;
        buffer::write(&device, &queue, &input, bytemuck::cast_slice(&x))?;
        let outputs =
            [2.0_f32, 3.0].map(|factor| (factor, buffer::allocate(&device, size_of_val(x.as_slice()))));
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        for (factor, output) in &outputs {
            let describe =
                || (SCALE.to_owned(), vec![(0, Access::Uniform), (1, Access::Read), (2, Access::ReadWrite)]);
            let pipeline = pipelines.get(&device, "scale", describe)?;
            let params = [factor.to_bits(), x.len() as u32];
            let output = output.as_ref().map_err(Clone::clone)?;
            let bound = |binding, buffer| Bound { binding, buffer, start: 0, bytes: 4000 };
            let step = Step {
                pipeline,
                workgroups: [16, 1, 1],
                params: bytemuck::cast_slice(&params),
                bindings: vec![bound(1, &input), bound(2, output)],
            };
            encoder.record(&prepare(&device, vec![step])?);
        }
        assert_eq!(pipelines.len(), 1);
        queue.submit([encoder.finish()]);
        for (factor, output) in outputs {
            let mut y = vec![0.0_f32; x.len()];
            buffer::read(&device, &queue, (&output?, 0), bytemuck::cast_slice_mut(&mut y))?;
            assert!(y.iter().zip(&x).all(|(y, x)| *y == factor * x), "{name}: {factor}");
        }
        println!("ran on {name}");
    }
    Ok(())
}

#[test]
fn bytes_of_any_number_come_back() -> Result<()> {
    for (name, device, queue) in devices() {
        for n in [0, 1, 2, 3, 4, 5, 63, 64, 65, 1021] {
            let sent: Vec<u8> = (0..n).map(|i| (i * 7 + 1) as u8).collect();
            let memory = buffer::allocate(&device, n)?;
            buffer::write(&device, &queue, &memory, &sent)?;
            let mut got = vec![0; n];
            buffer::read(&device, &queue, (&memory, 0), &mut got)?;
            assert_eq!(sent, got, "{name}");
        }
    }
    Ok(())
}

#[test]
fn what_wgpu_reports_comes_back_as_a_value() -> Result<()> {
    for (name, device, _queue) in devices() {
        let broken = Pipelines::new().get(&device, 0, || ("fn main( {".to_owned(), Vec::new()));
        assert!(matches!(broken, Err(Error::Driver { .. })), "{name}: {broken:?}");
        let beyond = device.limits().max_buffer_size as usize + 1;
        assert_eq!(
            buffer::allocate(&device, beyond).err(),
            Some(Error::OutOfMemory { bytes: beyond }),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn a_lost_device_is_an_error() -> Result<()> {
    for (name, device, queue) in devices() {
        let memory = buffer::allocate(&device, 64)?;
        device.destroy();
        let mut bytes = [0; 64];
        let read = buffer::read(&device, &queue, (&memory, 0), &mut bytes);
        assert!(matches!(read, Err(Error::DeviceLost { .. } | Error::Driver { .. })), "{name}: {read:?}");
    }
    Ok(())
}
