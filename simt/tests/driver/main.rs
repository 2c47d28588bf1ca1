//! The host side of the CUDA backend on a driver without a GPU: its memory is the host's, and its launches run on
//! `dyt-simt`. Each test runs in a process of its own, because a driver is loaded once and for all.
#![cfg(target_os = "linux")]

mod fake;
mod graph;

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use dyt::cuda::plan::Entry;
use dyt::cuda::{CudaKernels, view, view_mut};
use dyt::{
    Argument, Backend, Backward, DType, Device, Error, Forward, Op, Pass, Problem, Refusal, View, ViewMut,
};
use dyt_conformance::{Prepared, quick_cases};

use fake::{Fake, LAUNCH_FAILS, Outcome, alone};

/// Why `cuda` is refused.
fn refusal(name: &str) -> Option<Refusal> {
    match Device::open(name) {
        Err(Error::BackendUnavailable { backend: Backend::Cuda, reason }) => Some(reason),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn the_cases_pass_through_the_driver() -> Outcome {
    alone("the_cases_pass_through_the_driver", |fake| {
        let device = Device::open("cuda:0")?;
        assert_eq!(
            (device.name().as_str(), device.backend(), device.level()),
            ("cuda:0", Backend::Cuda, None)
        );
        assert!(device.description().starts_with("Fake GPU 0 (9.0), "), "{}", device.description());
        let before = fake.live_bytes()?;
        let cases = quick_cases();
        for case in &cases {
            Prepared::new(case)?.run(&device)?;
        }
        assert!(cases.len() > 50);
        assert_eq!(fake.live_bytes()?, before);
        Ok(())
    })
}

#[test]
fn calls_allocate_nothing_and_wait_for_nothing() -> Outcome {
    alone("calls_allocate_nothing_and_wait_for_nothing", |fake| {
        let device = Device::open("cuda")?;
        for op in Op::ALL {
            let problem = Problem::new(op, 70, 96).build()?;
            let tensor = device.zeros(DType::F32, problem.elements())?;
            let (one, mut out) =
                (device.zeros(DType::F32, 1)?, device.zeros(DType::F32, problem.elements())?);
            let (columns, mut dgamma) = (device.zeros(DType::F32, 96)?, device.zeros(DType::F32, 96)?);
            let bytes = device.workspace_bytes(&problem, Pass::Backward);
            let mut workspace = device.zeros(DType::F32, bytes / 4)?;
            let calls = fake.calls(|| {
                let mut arguments = Forward::new(&tensor, &mut out);
                (arguments.alpha, arguments.shift) = scalars(op, &one);
                device.forward(&problem, arguments)
            })?;
            assert_eq!(calls, ["cuCtxGetCurrent 0", "cuLaunchKernel 0"], "{op}");
            let calls = fake.calls(|| {
                let mut arguments =
                    Backward::of(&tensor).dy(&tensor).gamma(&columns).dx(&mut out).dgamma(&mut dgamma);
                (arguments.alpha, arguments.shift) = scalars(op, &one);
                device.backward_with(&problem, arguments, &mut workspace)
            })?;
            assert_eq!(calls[0], "cuCtxGetCurrent 0");
            assert!(
                (2..=4).contains(&calls.len()) && calls[1..].iter().all(|c| c == "cuLaunchKernel 0"),
                "{calls:?}"
            );
        }
        Ok(())
    })
}

/// alpha and shift, where the op has them.
fn scalars<'a>(op: Op, one: &'a dyt::Buffer) -> (Option<View<'a>>, Option<View<'a>>) {
    (op.is_pointwise().then(|| one.into()), op.has_shift().then(|| one.into()))
}

#[test]
fn the_framework_layer_uses_the_callers_stream() -> Outcome {
    alone("the_framework_layer_uses_the_callers_stream", |fake| {
        let kernels = CudaKernels::open(0)?;
        let stream = kernels.context().default_stream();
        let problem = Problem::new(Op::LayerNorm, 3, 8).build()?;
        let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let x = stream.clone_htod(&values)?;
        let mut y = stream.alloc_zeros::<f32>(24)?;
        // SAFETY: the views are used on their stream, before the guards are dropped.
        unsafe {
            let (x, _reads) = view::<f32>(&x, &stream);
            let (y, _writes) = view_mut::<f32>(&mut y, &stream);
            kernels.forward(&stream, &problem, Forward::new(x, y))?;
        }
        let y = stream.clone_dtoh(&y)?;
        let mut expected = vec![0.0_f32; 24];
        Device::open("cpu")?.forward(&problem, Forward::new(&values, &mut expected))?;
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?}");

        // By address, on a raw stream.
        let (mut raw, mut out) = (values, vec![0.0_f32; 24]);
        let calls = fake.calls(|| {
            // SAFETY: this driver's memory is the host's, and it has done its work when a launch returns.
            unsafe {
                let x = View::from_cuda(0, raw.as_mut_ptr().addr() as u64, 24, DType::F32);
                let y = ViewMut::from_cuda(0, out.as_mut_ptr().addr() as u64, 24, DType::F32);
                kernels.forward_on(core::ptr::without_provenance_mut(0x77), &problem, Forward::new(x, y))
            }
        })?;
        assert_eq!(calls, ["cuCtxGetCurrent 0", "cuLaunchKernel 119"]);
        assert_eq!(out, y);
        Ok(())
    })
}

#[test]
fn what_lies_elsewhere_is_refused() -> Outcome {
    alone("what_lies_elsewhere_is_refused", |fake| {
        fake.set("devices", 2)?;
        let names: Vec<_> = Device::candidates().iter().map(|c| c.name.clone()).take(2).collect();
        assert_eq!(names, ["cuda:0", "cuda:1"]);
        let (first, second) = (Device::open("cuda:0")?, Device::open("cuda:1")?);
        let problem = Problem::new(Op::RmsNorm, 2, 4).build()?;
        let (here, mut out) = (first.zeros(DType::F32, 8)?, first.zeros(DType::F32, 8)?);
        let there = second.zeros(DType::F32, 8)?;
        let wrong =
            |actual| Err(Error::WrongDevice { argument: Argument::X, expected: Backend::Cuda, actual });
        assert_eq!(first.forward(&problem, Forward::new(&there, &mut out)), wrong(Backend::Cuda));
        assert_eq!(first.forward(&problem, Forward::new(&[0.0_f32; 8], &mut out)), wrong(Backend::Cpu));
        assert_eq!(first.copy(&there, &mut out), wrong(Backend::Cuda));
        assert_eq!(first.forward(&problem, Forward::new(&here, &mut out)), Ok(()));
        assert_eq!(here.as_slice::<f32>(), None);
        Ok(())
    })
}

#[test]
fn copies_and_the_clock() -> Outcome {
    // Drivers of some GPUs have no pools of memory, so that theirs is not freed in the order of the stream.
    alone("copies_and_the_clock", |fake| [0, 1].into_iter().try_for_each(|pools| copies(&fake, pools)))
}

fn copies(fake: &Fake, pools: c_int) -> Outcome {
    fake.set("pools", pools)?;
    let device = Device::open("cuda")?;
    let mut values = [0.0_f32; 5];
    device.read(&device.zeros(DType::F32, 5)?, &mut values)?;
    assert_eq!(values, [0.0; 5]);
    let source = device.upload(&[1.0_f32, 2.0, 3.0, 4.0, 5.0])?;
    let mut target = device.zeros(DType::F32, 5)?;
    device.copy(&source, &mut target)?;
    device.synchronize()?;
    device.read(&target, &mut values)?;
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0]);
    let nothing = device.upload(&[0.0_f32; 0])?;
    device.read(&nothing, &mut [0.0_f32; 0])?;
    assert_eq!(device.elapsed(|| Ok(()))?.as_micros(), 1500);
    assert_eq!(device.elapsed(|| Err(Error::ZeroCols)), Err(Error::ZeroCols));
    drop((source, target, nothing));
    assert_eq!(fake.live_bytes()?, 0);
    Ok(())
}

#[test]
fn memory_that_is_not_there() -> Outcome {
    alone("memory_that_is_not_there", |fake| {
        let device = Device::open("cuda")?;
        fake.fail("cuMemAllocAsync", 2, 0)?;
        let error = device.zeros(DType::F32, 1000).err();
        assert_eq!(error, Some(Error::OutOfMemory { bytes: 4000 }));
        // The next call is as if nothing had been.
        device.zeros(DType::F32, 1000)?;
        assert_eq!(
            device.zeros(DType::F32, usize::MAX / 2).err(),
            Some(Error::OutOfMemory { bytes: usize::MAX })
        );
        Ok(())
    })
}

#[test]
fn errors_of_launches_and_lost_devices() -> Outcome {
    alone("errors_of_launches_and_lost_devices", |fake| {
        let device = Device::open("cuda")?;
        let problem = Problem::new(Op::RmsNorm, 2, 4).build()?;
        let (x, mut y) = (device.zeros(DType::F32, 8)?, device.zeros(DType::F32, 8)?);
        let mut run = || device.forward(&problem, Forward::new(&x, &mut y));
        LAUNCH_FAILS.store(701, Ordering::Relaxed);
        let message = "FAKE_ERROR_701: as the test asked for".to_owned();
        assert_eq!(run(), Err(Error::Driver { backend: Backend::Cuda, message }));
        LAUNCH_FAILS.store(0, Ordering::Relaxed);
        run()?;
        // A kernel that went wrong shows where the host waits for it, and in every call after that.
        fake.fail("cuStreamSynchronize", 700, 0)?;
        let reason = "FAKE_ERROR_700: as the test asked for".to_owned();
        let lost = Err(Error::DeviceLost { backend: Backend::Cuda, reason });
        assert_eq!(device.synchronize(), lost);
        assert_eq!(run(), lost);
        assert_eq!(device.zeros(DType::F32, 1).map(drop), lost);
        Ok(())
    })
}

#[test]
fn an_old_driver() -> Outcome {
    alone("an_old_driver", |fake| {
        fake.set("version", 11080)?;
        let expected = Refusal::CudaDriverTooOld { needed: (12, 0), actual: (11, 8) };
        assert_eq!(refusal("cuda"), Some(expected));
        assert!(Device::auto()?.backend() != Backend::Cuda);
        Ok(())
    })
}

#[test]
fn no_gpu() -> Outcome {
    alone("no_gpu", |fake| {
        fake.set("devices", 0)?;
        assert_eq!(refusal("cuda:3"), Some(Refusal::NoCudaDevice));
        assert_eq!(Device::candidates()[0].name, "cuda");
        Ok(())
    })
}

#[test]
fn a_driver_that_does_not_start() -> Outcome {
    alone("a_driver_that_does_not_start", |fake| {
        fake.fail("cuInit", 803, 0)?;
        let reason = "FAKE_ERROR_803: as the test asked for".to_owned();
        assert_eq!(refusal("cuda"), Some(Refusal::CudaInit { reason }));
        Ok(())
    })
}

#[test]
fn fewer_gpus_and_an_old_one() -> Outcome {
    alone("fewer_gpus_and_an_old_one", |fake| {
        fake.set("capability", 70)?;
        assert_eq!(refusal("cuda:1"), Some(Refusal::NoSuchCudaDevice { ordinal: 1, count: 1 }));
        let expected = Refusal::ComputeCapability { needed: (7, 5), actual: (7, 0) };
        assert_eq!(refusal("cuda:0"), Some(expected));
        assert_eq!(CudaKernels::open(0).err().map(|e| e.to_string().contains("7.5")), Some(true));
        Ok(())
    })
}

#[test]
fn ptx_that_the_driver_does_not_take() -> Outcome {
    alone("ptx_that_the_driver_does_not_take", |fake| {
        fake.set("newest_isa", 78)?;
        let Some(Refusal::PtxRefused { log }) = refusal("cuda") else { unreachable!("opened") };
        assert!(log.contains("FAKE_ERROR_222") && log.contains("unsupported .version 8.0"), "{log}");
        assert!(Device::auto()?.backend() != Backend::Cuda);
        // Another error is not about the PTX.
        fake.set("newest_isa", 80)?;
        fake.fail("cuModuleLoadDataEx", 2, 0)?;
        assert!(matches!(Device::open("cuda"), Err(Error::OutOfMemory { .. })));
        // Of a file that is refused an older one is loaded, and the others stay as they are.
        fake.set("capability", 86)?;
        fake.fail("cuModuleLoadDataEx", 218, 1)?;
        let device = Device::open("cuda")?;
        let expected = "prebuilt PTX for sm_75 and prebuilt PTX for sm_80; the driver took no other: ";
        assert!(device.description().contains(expected), "{}", device.description());
        let problem = Problem::new(Op::RmsNorm, 2, 4).build()?;
        let (x, mut y) = (device.upload(&[1.0_f32; 8])?, device.zeros(DType::F32, 8)?);
        device.forward(&problem, Forward::new(&x, &mut y))?;
        Ok(())
    })
}

#[test]
fn older_gpus_take_older_ptx() -> Outcome {
    alone("older_gpus_take_older_ptx", |fake| {
        fake.set("capability", 86)?;
        let kernels = CudaKernels::open(0)?;
        assert!(kernels.sources().iter().all(|ptx| ptx.architecture() == 80));
        assert_eq!(kernels.sources().len(), Entry::FILES.len());
        assert_eq!(kernels.fallback(), None);
        drop(kernels);
        let devices = [Device::open("cuda")?, Device::open("cuda:0")?];
        assert_eq!(devices[0].name(), devices[1].name());
        // Buffers of one serve the other: both have one stream.
        let buffer = devices[0].upload(&[1.0_f32, 2.0])?;
        let mut values = [0.0_f32; 2];
        devices[1].read(&buffer, &mut values)?;
        assert_eq!(values, [1.0, 2.0]);
        Ok(())
    })
}
