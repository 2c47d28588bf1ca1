//! What goes wrong comes back as an error, and nothing has been recorded then.

use std::process::Command;

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{BufferDescriptor, BufferUsages, Features, Limits};
use dyt::{Argument, Backend, DType, Device, Error, Forward, Op, Problem, Refusal, View, ViewMut};

use crate::support::{Outcome, adapters, least, open, read, storage};

fn norm() -> dyt::Result<Problem> {
    Problem::new(Op::RmsNorm, 2, 8).build()
}

#[test]
fn a_device_that_is_lost_is_an_error_in_every_call() -> Outcome {
    for adapter in adapters() {
        let kernels = least(&adapter)?;
        let device = Device::from_wgpu(&kernels);
        let (x, mut y) = (device.zeros(DType::F32, 16)?, device.zeros(DType::F32, 16)?);
        let mut host = [0.0_f32; 16];
        kernels.device().destroy();
        let name = adapter.get_info().name;
        let lost = |result: dyt::Result<()>, what: &str| {
            assert!(
                matches!(result, Err(Error::DeviceLost { backend: Backend::Wgpu, .. })),
                "{name} {what}: {result:?}"
            );
        };
        lost(device.forward(&norm()?, Forward::new(&x, &mut y)), "forward");
        lost(device.read(&x, &mut host), "download");
        let mut encoder = kernels.device().create_command_encoder(&Default::default());
        lost(kernels.forward(&mut encoder, &norm()?, Forward::new(&x, &mut y)), "recorded forward");
    }
    Ok(())
}

#[test]
fn a_device_of_ours_that_is_lost_says_so_for_ever() -> Outcome {
    let devices = Device::candidates().into_iter().filter_map(|candidate| candidate.device.ok());
    for device in devices.filter(|device| device.backend() == Backend::Wgpu) {
        let (x, mut y) = (device.zeros(DType::F32, 16)?, device.zeros(DType::F32, 16)?);
        device.wgpu_kernels().ok_or("a wgpu device has kernels")?.device().destroy();
        for _ in 0..2 {
            let outcomes = [
                device.forward(&norm()?, Forward::new(&x, &mut y)),
                device.read(&x, &mut [0.0_f32; 16]),
                device.synchronize(),
                device.zeros(DType::F32, 4).map(drop),
                device.upload(&[1.0_f32; 4]).map(drop),
                device.elapsed(|| Ok(())).map(drop),
            ];
            for outcome in outcomes {
                assert!(matches!(outcome, Err(Error::DeviceLost { .. })), "{}: {outcome:?}", device.name());
            }
        }
    }
    Ok(())
}

#[test]
fn a_buffer_of_another_device_is_refused_and_leaves_the_encoder_as_it_was() -> Outcome {
    for adapter in adapters() {
        let (ours, theirs) = (least(&adapter)?, least(&adapter)?);
        let (device, queue) = (ours.device(), ours.queue());
        let (x, foreign) = (storage(device, 64), storage(theirs.device(), 64));
        let y = storage(device, 64);
        queue.write_buffer(&x, 0, bytemuck::cast_slice(&[3.0_f32; 16]));
        let mut encoder = device.create_command_encoder(&Default::default());
        let view = |buffer| View::from_wgpu(buffer, 0, 16, DType::F32);
        let call = Forward::new(view(&foreign)?, ViewMut::from_wgpu(&y, 0, 16, DType::F32)?);
        let refused = ours.forward(&mut encoder, &norm()?, call);
        assert!(matches!(refused, Err(Error::Driver { backend: Backend::Wgpu, .. })), "{refused:?}");
        let call = Forward::new(view(&x)?, ViewMut::from_wgpu(&y, 0, 16, DType::F32)?);
        ours.forward(&mut encoder, &norm()?, call)?;
        queue.submit([encoder.finish()]);
        let y: Vec<f32> = bytemuck::pod_collect_to_vec(&read(device, queue, &y)?);
        assert!(y.iter().all(|y| (y - 1.0).abs() < 1e-5), "{y:?}");
    }
    Ok(())
}

#[test]
fn a_view_has_to_lie_in_a_storage_buffer() -> Outcome {
    for adapter in adapters() {
        let kernels = least(&adapter)?;
        let buffer = storage(kernels.device(), 64);
        assert!(View::from_wgpu(&buffer, 0, 16, DType::F32).is_ok());
        for (offset, len, dtype) in [(4, 16, DType::F32), (0, 33, DType::F16), (u64::MAX, 1, DType::F32)] {
            let size = 64;
            let expected = Error::OutOfBuffer { offset, len, dtype, size };
            assert_eq!(View::from_wgpu(&buffer, offset, len, dtype).err(), Some(expected));
        }
        let descriptor = BufferDescriptor {
            label: None,
            size: 6,
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        };
        let half_a_word = kernels.device().create_buffer(&descriptor);
        assert!(View::from_wgpu(&half_a_word, 0, 2, DType::F16).is_ok());
        assert!(matches!(ViewMut::from_wgpu(&half_a_word, 0, 3, DType::F16), Err(Error::OutOfBuffer { .. })));
        let descriptor = BufferDescriptor { usage: BufferUsages::UNIFORM, size: 64, ..descriptor };
        let uniform = kernels.device().create_buffer(&descriptor);
        assert_eq!(View::from_wgpu(&uniform, 0, 16, DType::F32).err(), Some(Error::NotStorage));
    }
    Ok(())
}

#[test]
fn host_memory_is_not_the_devices() -> Outcome {
    for adapter in adapters() {
        let device = Device::from_wgpu(&least(&adapter)?);
        let mut y = device.zeros(DType::F32, 16)?;
        let (argument, expected, actual) = (Argument::X, Backend::Wgpu, Backend::Cpu);
        let refused = device.forward(&norm()?, Forward::new(&[0.0_f32; 16], &mut y));
        assert_eq!(refused, Err(Error::WrongDevice { argument, expected, actual }));
    }
    Ok(())
}

#[test]
fn a_device_with_lower_limits_is_refused() -> Outcome {
    for adapter in adapters() {
        let limits = Limits { max_storage_buffers_per_shader_stage: 4, ..WgpuKernels::required_limits() };
        let (device, queue) = open(&adapter, Features::empty(), limits)?;
        let (limit, needed, actual) = ("maxStorageBuffersPerShaderStage", 8, 4);
        let reason = Refusal::LimitTooLow { limit, needed, actual };
        let expected = Error::BackendUnavailable { backend: Backend::Wgpu, reason };
        assert_eq!(WgpuKernels::new(&device, &queue).err(), Some(expected));
    }
    Ok(())
}

#[test]
fn more_memory_than_there_is_is_an_error() -> Outcome {
    for adapter in adapters() {
        let device = Device::from_wgpu(&least(&adapter)?);
        let len = usize::MAX / 8;
        assert_eq!(device.zeros(DType::F32, len).err(), Some(Error::OutOfMemory { bytes: 4 * len }));
        assert!(device.zeros(DType::F32, 16).is_ok());
    }
    Ok(())
}

#[test]
fn time_passes_while_an_adapter_works() -> Outcome {
    for adapter in adapters() {
        let (device, queue) =
            open(&adapter, WgpuKernels::optional_features(), WgpuKernels::required_limits())?;
        let device = Device::from_wgpu(&WgpuKernels::new(&device, &queue)?);
        let problem = Problem::new(Op::RmsNorm, 512, 1024).build()?;
        let (x, mut y) = (device.upload(&vec![2.0_f32; 512 * 1024])?, device.zeros(DType::F32, 512 * 1024)?);
        let run = |y: &mut dyt::Buffer| device.forward(&problem, Forward::new(&x, y));
        run(&mut y)?;
        let once = device.elapsed(|| run(&mut y))?;
        let often = device.elapsed(|| (0..20).try_for_each(|_| run(&mut y)))?;
        assert!(!once.is_zero() && often > once, "{once:?} {often:?}");
        let mut host = vec![0.0_f32; 512 * 1024];
        device.read(&y, &mut host)?;
        assert!(host.iter().all(|y| (y - 1.0).abs() < 1e-5));
    }
    Ok(())
}

/// Not a test by itself: prints what opening `wgpu` says, for the tests below, which run it in other environments.
#[test]
#[ignore = "run by other tests"]
fn print_what_opening_says() {
    println!("opening: {:?}", Device::open("wgpu").map(|device| device.name()));
}

/// What opening says in another environment.
fn opening(variables: &[(&str, &str)]) -> Result<String, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "--nocapture", "failures::print_what_opening_says"])
        .envs(variables.iter().copied())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

#[test]
#[cfg(target_os = "linux")]
fn a_missing_loader_and_missing_drivers_are_refusals() -> Outcome {
    // A file that is no library stands in front of the loader.
    let folder = std::env::temp_dir().join(format!("dyt-no-loader-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    for name in ["libvulkan.so", "libvulkan.so.1"] {
        std::fs::write(folder.join(name), "")?;
    }
    let text = opening(&[("LD_LIBRARY_PATH", &folder.to_string_lossy())]);
    std::fs::remove_dir_all(&folder)?;
    let text = text?;
    assert!(text.contains("NoVulkanLoader") && text.contains("libvulkan.so"), "{text}");
    let nowhere = "/nonexistent/icd.json";
    let text = opening(&[("VK_ICD_FILENAMES", nowhere), ("VK_DRIVER_FILES", nowhere)])?;
    assert!(text.contains("NoAdapter") || text.contains("NoVulkanLoader"), "{text}");
    Ok(())
}
