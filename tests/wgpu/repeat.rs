//! The same bits: from run to run, from one device of an adapter to another, and in whatever company a row is.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::Features;
use dyt::{Backward, DType, Device, Forward, Op, Problem, Result};

use crate::support::{Outcome, activations, adapters, open};

const ROWS: usize = 301;
const COLS: usize = 500;

/// The bits of dx and of every gradient of a parameter.
fn gradients(device: &Device, op: Op) -> Result<Vec<Vec<u32>>> {
    let problem = Problem::new(op, ROWS, COLS).build()?;
    let x = device.upload(&activations(ROWS * COLS, 1))?;
    let dy = device.upload(&activations(ROWS * COLS, 2))?;
    let (alpha, shift) = (device.upload(&0.8_f32)?, device.upload(&0.1_f32)?);
    let gamma = device.upload(&activations(COLS, 3))?;
    let lens = [ROWS * COLS, COLS, COLS, 1, 1];
    let mut outputs = lens.into_iter().map(|n| device.zeros(DType::F32, n)).collect::<Result<Vec<_>>>()?;
    let [dx, dgamma, dbeta, dalpha, dshift] = outputs.as_mut_slice() else { return Ok(Vec::new()) };
    let mut call = Backward::of(&x).dy(&dy).gamma(&gamma).dx(dx).dgamma(dgamma).dbeta(dbeta);
    if op.is_pointwise() {
        call = call.alpha(&alpha).dalpha(dalpha);
    }
    if op.has_shift() {
        call = call.shift(&shift).dshift(dshift);
    }
    device.backward(&problem, call)?;
    let fetch = |buffer: &dyt::Buffer| {
        let mut host = vec![0.0_f32; buffer.len()];
        device.read(buffer, &mut host).map(|()| host.into_iter().map(f32::to_bits).collect())
    };
    outputs.iter().map(fetch).collect()
}

#[test]
fn gradients_have_the_same_bits_every_time() -> Outcome {
    for adapter in adapters() {
        let device = || -> std::result::Result<Device, Box<dyn std::error::Error>> {
            let limits = WgpuKernels::required_limits();
            let (device, queue) = open(&adapter, Features::SUBGROUP, limits)?;
            Ok(Device::from_wgpu(&WgpuKernels::new(&device, &queue)?))
        };
        let (one, another) = (device()?, device()?);
        for op in Op::ALL {
            let first = gradients(&one, op)?;
            assert!(first.iter().flatten().any(|&bits| bits != 0));
            for round in 0..3 {
                assert_eq!(first, gradients(&one, op)?, "{op}, round {round}");
            }
            assert_eq!(first, gradients(&another, op)?, "{op}, another device");
        }
    }
    Ok(())
}

#[test]
fn a_row_does_not_depend_on_its_company() -> Outcome {
    for adapter in adapters() {
        let (device, queue) = open(&adapter, Features::SUBGROUP, WgpuKernels::required_limits())?;
        let device = Device::from_wgpu(&WgpuKernels::new(&device, &queue)?);
        for op in Op::ALL {
            for cols in [1, 40, 257, 3000] {
                let forward = |x: &[f32]| -> Result<Vec<f32>> {
                    let problem = Problem::new(op, x.len() / cols, cols).build()?;
                    let (buffer, mut y) = (device.upload(x)?, device.zeros(DType::F32, x.len())?);
                    let (alpha, shift) = (device.upload(&0.8_f32)?, device.upload(&0.1_f32)?);
                    let mut call = Forward::new(&buffer, &mut y);
                    call.alpha = op.is_pointwise().then_some((&alpha).into());
                    call.shift = op.has_shift().then_some((&shift).into());
                    device.forward(&problem, call)?;
                    let mut host = vec![0.0; x.len()];
                    device.read(&y, &mut host)?;
                    Ok(host)
                };
                let x = activations(9 * cols, 7);
                let together = forward(&x)?;
                for (row, expected) in x.chunks(cols).zip(together.chunks(cols)).step_by(4) {
                    assert_eq!(forward(row)?, expected, "{op} {cols}");
                }
            }
        }
    }
    Ok(())
}
