//! The kernels on Vulkan, Metal and DX12, through wgpu.

mod adapter;
mod buffer;
mod error;
mod pipeline;
mod record;
#[cfg(test)]
mod tests;
mod timer;
