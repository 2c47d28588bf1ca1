//! NVIDIA GPUs: what frameworks link that have a context, streams and memory of their own.
//!
//! [`CudaKernels`] loads the kernels into the caller's context and launches them on the caller's stream. A launch
//! allocates nothing and waits for nothing, so that it can be captured in a CUDA graph. [`plan`] has the geometry of
//! every launch and [`ptx`] the code, for frameworks that load and launch by themselves.
//!
//! Nothing is linked: the driver is looked for at run time, and where it is absent every call here is refused with
//! [`Error::BackendUnavailable`](crate::Error::BackendUnavailable). [`Device::open`](crate::Device::open) with `cuda:N`
//! is the layer above, with buffers of its own.

mod buffer;
mod device;
mod error;
mod kernels;
mod module;
pub mod plan;
mod probe;
pub mod ptx;
mod view;

pub use cudarc;
pub use kernels::CudaKernels;
pub use probe::driver;
pub use view::{view, view_mut};

pub(crate) use buffer::CudaMemory;
pub(crate) use device::Cuda;
pub(crate) use probe::names;
