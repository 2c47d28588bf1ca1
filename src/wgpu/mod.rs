//! The kernels on Vulkan, Metal and DX12, through wgpu.
//!
//! [`WgpuKernels`] records calls into the command encoder of a framework that has its own [`wgpu::Device`]. A
//! [`Device`](crate::Device) opened as `wgpu` or `wgpu:NAME` is built on it.

mod adapter;
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

/// The version of wgpu whose types [`WgpuKernels`] takes.
pub use ::wgpu;
pub use kernels::WgpuKernels;
pub use record::Record;

pub(crate) use adapter::software_names;
pub(crate) use device::Wgpu;
