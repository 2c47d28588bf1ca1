//! Vulkan, Metal and DX12 through wgpu: what frameworks link that have a device, buffers and encoders of their own.
//!
//! [`WgpuKernels`] records forward and backward into the caller's command encoder or compute pass, on the caller's
//! buffers at any offset. It submits nothing, waits for nothing, and changes none of the device's callbacks.
//! [`Device::open`](crate::Device::open) with `wgpu` or `wgpu:NAME` is the layer above, with a device and buffers of
//! its own; [`Device::from_wgpu`](crate::Device::from_wgpu) puts it on a device of the caller's.
//!
//! Nothing is linked: Vulkan's loader is looked for at run time, and where it or an adapter is absent the layer above is
//! refused with [`Error::BackendUnavailable`](crate::Error::BackendUnavailable). Software adapters (llvmpipe,
//! SwiftShader) run when they are named, as `wgpu:llvmpipe`, and never by themselves.

mod adapter;
mod arguments;
mod buffer;
#[path = "../../shaders/compose.rs"]
mod compose;
mod device;
mod error;
mod kernels;
mod pipeline;
mod plan;
mod record;
#[cfg(test)]
mod tests;
mod timer;

/// The version of wgpu whose types stand in this interface.
pub use ::wgpu;
pub use kernels::WgpuKernels;
pub use record::Record;

pub(crate) use adapter::software_names;
pub(crate) use device::Wgpu;
