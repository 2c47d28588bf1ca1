//! The devices that every submodule shares, and how many threads the CPU may take.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "cuda")]
use dyt::Refusal;
#[cfg(feature = "cuda")]
use dyt::cuda::CudaKernels;
use dyt::{Backend, Device, Error};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The limit that `dyt.set_threads` set; 0 where each framework's own number holds.
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// The CPU for submodules whose framework has no number of threads. `DYT_CPU_LEVEL` names its level.
///
/// # Errors
/// What [`Device::open`] says about `DYT_CPU_LEVEL`.
pub(crate) fn cpu() -> Result<&'static Device, Error> {
    static CPU: OnceLock<Result<Device, Error>> = OnceLock::new();
    CPU.get_or_init(|| Device::open("cpu")).as_ref().map_err(Clone::clone)
}

/// The kernels of the GPU of that number, in the primary context that frameworks use. The driver loads them when a call first
/// needs them.
///
/// # Errors
/// What [`CudaKernels::open`] says, the same at each call.
#[cfg(feature = "cuda")]
pub(crate) fn cuda(ordinal: usize) -> Result<&'static CudaKernels, Error> {
    /// GPUs of one process at most.
    const DEVICES: usize = 64;
    static KERNELS: [OnceLock<Result<CudaKernels, Error>>; DEVICES] = [const { OnceLock::new() }; DEVICES];
    let slot = KERNELS.get(ordinal).ok_or(Error::BackendUnavailable {
        backend: Backend::Cuda,
        reason: Refusal::NoSuchCudaDevice { ordinal, count: DEVICES },
    })?;
    slot.get_or_init(|| CudaKernels::open(ordinal)).as_ref().map_err(Clone::clone)
}

/// The limit that the user set, or `own`, the number of the framework, where there is none.
pub(crate) fn limit_or(own: usize) -> usize {
    match LIMIT.load(Ordering::Relaxed) {
        0 => own,
        limit => limit,
    }
}

/// The error as Python's exception.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn exception(error: Error) -> PyErr {
    PyRuntimeError::new_err(format!("dyt: {error}"))
}

/// Every device that could be meant: its name, what it is or why it is absent, and whether it is there.
#[pyfunction]
fn devices(py: Python<'_>) -> Vec<(String, String, bool)> {
    let mut candidates = py.detach(Device::candidates);
    // No submodule has arrays that lie in wgpu's buffers.
    candidates.retain(|candidate| !candidate.name.starts_with(Backend::Wgpu.name()));
    let describe = |candidate: dyt::Candidate| match candidate.device {
        Ok(device) => (candidate.name, device.description(), true),
        Err(error) => (candidate.name, error.to_string(), false),
    };
    candidates.into_iter().map(describe).collect()
}

/// Limits the threads of each call on the CPU; 0 takes the limit away.
#[pyfunction]
fn set_threads(threads: usize) -> PyResult<()> {
    LIMIT.store(threads, Ordering::Relaxed);
    cpu().map_err(exception)?.set_threads(threads);
    Ok(())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(devices, module)?)?;
    module.add_function(wrap_pyfunction!(set_threads, module)?)
}
