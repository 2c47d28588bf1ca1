//! Which adapter a name means, and why there is none.

use std::sync::OnceLock;

use ::wgpu::{Adapter, AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor};

use crate::error::Refusal;
use crate::{Backend, Error, Result};

/// Software drivers by the names that users give them, as their adapters' names contain them.
const SOFTWARE: [&str; 2] = ["llvmpipe", "swiftshader"];

/// The adapter that is meant by the part of a device's name behind `wgpu:`; without one, the best hardware adapter.
pub(super) fn choose(name: Option<&str>) -> Result<Adapter> {
    let mut adapters = enumerate()?;
    let infos: Vec<_> = adapters.iter().map(Adapter::get_info).collect();
    let chosen = pick(&infos, name).map_err(refused)?;
    Ok(adapters.swap_remove(chosen))
}

/// The names of the software adapters of this machine, each once.
pub(crate) fn software_names() -> Vec<String> {
    let mut names = Vec::new();
    for adapter in enumerate().unwrap_or_default() {
        let info = adapter.get_info();
        let name = canonical(&info);
        if info.device_type == DeviceType::Cpu && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The name that finds the adapter again: short for the software drivers, in full for others.
pub(super) fn canonical(info: &AdapterInfo) -> String {
    let name = info.name.to_lowercase();
    match SOFTWARE.into_iter().find(|software| name.contains(software)) {
        Some(software) if info.device_type == DeviceType::Cpu => software.to_owned(),
        _ => info.name.clone(),
    }
}

/// Steps of all loops of a kernel together after which the driver skips what a lane has left of them, if it does so.
/// Mesa's llvmpipe counts them (`LP_MAX_TGSI_LOOP_ITERATIONS`), and reports nothing.
pub(super) fn loop_steps(info: &AdapterInfo) -> Option<u64> {
    (info.driver == "llvmpipe").then_some(65_535)
}

pub(super) const fn refused(reason: Refusal) -> Error {
    Error::BackendUnavailable { backend: Backend::Wgpu, reason }
}

/// The index of the adapter that a name means: of several, the one most likely to be fast, and the first of equals.
fn pick(infos: &[AdapterInfo], name: Option<&str>) -> core::result::Result<usize, Refusal> {
    let indices = 0..infos.len();
    match name {
        Some(part) => {
            let part = part.to_lowercase();
            let matching = indices.filter(|&i| infos[i].name.to_lowercase().contains(&part));
            matching.min_by_key(|&i| rank(&infos[i])).ok_or_else(|| Refusal::NoSuchAdapter {
                name: part,
                found: infos.iter().map(|info| info.name.clone()).collect(),
            })
        }
        None => {
            let hardware = indices.filter(|&i| infos[i].device_type != DeviceType::Cpu);
            hardware
                .min_by_key(|&i| rank(&infos[i]))
                .ok_or_else(|| Refusal::SoftwareAdaptersOnly { found: infos.iter().map(canonical).collect() })
        }
    }
}

/// Smaller is better.
const fn rank(info: &AdapterInfo) -> u8 {
    match info.device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// Every adapter that can compute.
fn enumerate() -> Result<Vec<Adapter>> {
    let instance = instance().ok_or_else(|| refused(Refusal::NoAdapter))?;
    let backends = Backends::VULKAN | Backends::METAL | Backends::DX12;
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    if adapters.is_empty() {
        return Err(refused(loader_missing().unwrap_or(Refusal::NoAdapter)));
    }
    Ok(adapters)
}

/// One instance for the whole process: drivers are loaded once, and stay. `None` where this target has no backend.
fn instance() -> Option<&'static Instance> {
    static INSTANCE: OnceLock<Option<Instance>> = OnceLock::new();
    INSTANCE
        .get_or_init(|| {
            // `Instance::new` panics if it has nothing to choose from, as on wasm32 without a browser's backend.
            let present = !Instance::enabled_backend_features().is_empty();
            present.then(|| vulkan_without_windows().unwrap_or_else(any))
        })
        .as_ref()
}

fn any() -> Instance {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    // Neither validation layers nor debug labels, whatever this crate is compiled with.
    descriptor.flags = ::wgpu::InstanceFlags::empty();
    Instance::new(descriptor)
}

/// Vulkan without the extension for Wayland's windows, which wgpu asks for wherever there is one. With it Mesa's layer
/// connects to Wayland, and where there is none, as in a container, prints an error each time it lists adapters.
#[cfg(target_os = "linux")]
fn vulkan_without_windows() -> Option<Instance> {
    use ::wgpu::hal::{self, vulkan::CreateInstanceCallbackArgs};

    #[expect(clippy::needless_pass_by_value, reason = "wgpu hands it over so")]
    fn leave_out(arguments: CreateInstanceCallbackArgs<'_, '_, '_>) {
        arguments.extensions.retain(|&name| name != c"VK_KHR_wayland_surface");
    }
    let descriptor = hal::InstanceDescriptor {
        name: "dyt",
        flags: ::wgpu::InstanceFlags::empty(),
        memory_budget_thresholds: ::wgpu::MemoryBudgetThresholds::default(),
        backend_options: ::wgpu::BackendOptions::default(),
        telemetry: None,
        display: None,
    };
    // SAFETY: the extension is left out as it is where a driver lacks it, which wgpu provides for; nothing here makes a
    // surface.
    let vulkan = unsafe { hal::vulkan::Instance::init_with_callback(&descriptor, Some(Box::new(leave_out))) };
    // SAFETY: the instance has just been made, and nobody else has it.
    vulkan.ok().map(|vulkan| unsafe { Instance::from_hal::<hal::api::Vulkan>(vulkan) })
}

#[cfg(not(target_os = "linux"))]
const fn vulkan_without_windows() -> Option<Instance> {
    None
}

/// Whether it is for want of Vulkan's loader that there is no adapter.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn loader_missing() -> Option<Refusal> {
    let names: &[&str] =
        if cfg!(target_os = "android") { &["libvulkan.so"] } else { &["libvulkan.so.1", "libvulkan.so"] };
    let mut reason = String::new();
    for name in names {
        // SAFETY: loading Vulkan's loader runs no code but its own initialisers, as wgpu does when it looks for it.
        match unsafe { libloading::Library::new(name) } {
            Ok(_) => return None,
            Err(error) if reason.is_empty() => reason = error.to_string(),
            Err(_) => {}
        }
    }
    Some(Refusal::NoVulkanLoader { reason })
}

/// Elsewhere the operating system brings its own interface to the adapters.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const fn loader_missing() -> Option<Refusal> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapters(list: &[(&str, DeviceType)]) -> Vec<AdapterInfo> {
        let info = |&(name, kind): &(&str, DeviceType)| AdapterInfo {
            name: name.to_owned(),
            ..AdapterInfo::new(kind, ::wgpu::Backend::Vulkan)
        };
        list.iter().map(info).collect()
    }

    #[test]
    fn hardware_goes_first_and_software_only_by_name() {
        let all = adapters(&[
            ("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu),
            ("Intel(R) UHD Graphics 630", DeviceType::IntegratedGpu),
            ("NVIDIA GeForce RTX 4070", DeviceType::DiscreteGpu),
            ("SwiftShader Device (Subzero)", DeviceType::Cpu),
        ]);
        assert_eq!(pick(&all, None), Ok(2));
        assert_eq!(pick(&all, Some("intel")), Ok(1));
        assert_eq!(pick(&all, Some("LLVMpipe")), Ok(0));
        assert_eq!(pick(&all, Some("swiftshader")), Ok(3));
        assert_eq!(pick(&all[..2], None), Ok(1));
    }

    #[test]
    fn a_refusal_says_what_was_found() {
        let software = adapters(&[("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu)]);
        let found = vec!["llvmpipe".to_owned()];
        assert_eq!(pick(&software, None), Err(Refusal::SoftwareAdaptersOnly { found }));
        let found = vec!["llvmpipe (LLVM 15.0.6, 256 bits)".to_owned()];
        assert_eq!(
            pick(&software, Some("Voodoo")),
            Err(Refusal::NoSuchAdapter { name: "voodoo".to_owned(), found })
        );
    }

    #[test]
    fn a_canonical_name_finds_its_adapter() {
        let all = adapters(&[
            ("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu),
            ("SwiftShader Device (LLVM 10.0.0)", DeviceType::Cpu),
            ("AMD Radeon RX 7600", DeviceType::DiscreteGpu),
        ]);
        let names: Vec<_> = all.iter().map(canonical).collect();
        assert_eq!(names, ["llvmpipe", "swiftshader", "AMD Radeon RX 7600"]);
        for (i, name) in names.iter().enumerate() {
            assert_eq!(pick(&all, Some(name)), Ok(i));
        }
    }
}
