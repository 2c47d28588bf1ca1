//! The GPU against the CPU: y and every gradient.

use candle_core::{DType, Device, Result, bail};

use crate::composed::{Case, OPS, close, tensor};

#[test]
fn a_gpu_gives_what_the_cpu_gives() -> Result<()> {
    let device = Device::new_cuda(0)?;
    for op in OPS {
        for (dtype, bound) in [(DType::F32, 8e-6), (DType::BF16, 1.0 / 64.0), (DType::F16, 1.0 / 512.0)] {
            for shape in [&[3, 5][..], &[2, 3, 17], &[600, 300], &[0, 6]] {
                let cpu = Case::new(op, shape, dtype, DType::F32)?;
                let gpu = cpu.map(|t| t.to_device(&device))?;
                let what = format!("{op:?} {shape:?} {dtype:?}");
                let weights = tensor(4, shape, dtype)?;
                let (expected, y) = (cpu.fused(&cpu.x)?, gpu.fused(&gpu.x)?);
                close(&format!("{what} y"), &y.to_device(&Device::Cpu)?, &expected, bound)?;
                let grads = (y * weights.to_device(&device)?)?.to_dtype(DType::F32)?.sum_all()?.backward()?;
                let expected = (expected * weights)?.to_dtype(DType::F32)?.sum_all()?.backward()?;
                for ((name, on_gpu), (_, on_cpu)) in gpu.variables().into_iter().zip(cpu.variables()) {
                    let (Some(grad), Some(expected)) = (grads.get(on_gpu), expected.get(on_cpu)) else {
                        bail!("{what} d{name} is missing");
                    };
                    close(&format!("{what} d{name}"), &grad.to_device(&Device::Cpu)?, expected, bound)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn tensors_of_two_devices_are_refused() -> Result<()> {
    let device = Device::new_cuda(0)?;
    for op in OPS {
        let case = Case::new(op, &[4, 6], DType::F32, DType::F32)?;
        assert!(case.fused(&case.x.to_device(&device)?).is_err(), "{op:?}");
    }
    Ok(())
}
