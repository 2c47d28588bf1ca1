//! The ops of PyTorch, under LibTorch's stable ABI.

mod arguments;
mod backward;
mod forward;
mod layout;
mod operand;
mod runner;
mod shims;
mod stack;
mod tensor;

use core::ffi::CStr;
use std::ffi::CString;

use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::prelude::*;

use shims::{Boxed, Shims};

/// The kernel as a function that the dispatcher calls.
macro_rules! boxed {
    ($kernel:path) => {{
        unsafe extern "C-unwind" fn entry(words: *mut u64, _arguments: u64, _results: u64) {
            // SAFETY: the dispatcher calls this with the words of the schema.
            unsafe { stack::call(words, $kernel) }
        }
        entry
    }};
}

/// The kernels, by the names of `dyt/torch/_ops.py`.
const KERNELS: [(&CStr, Boxed); 4] = [
    (c"forward", boxed!(forward::forward)),
    (c"saving", boxed!(forward::saving)),
    (c"quantised", boxed!(forward::quantised)),
    (c"backward", boxed!(backward::backward)),
];

/// Registers the kernels for ops that are defined in torch's namespace of that name.
#[pyfunction]
fn torch_register(namespace: &str) -> PyResult<()> {
    let shims = shims::load().map_err(|error| {
        PyImportError::new_err(format!("dyt.torch needs torch 2.9 or later, imported before: {error}"))
    })?;
    let namespace = CString::new(namespace)?;
    for key in [c"CPU", c"CUDA"] {
        if !register_for(shims, &namespace, key) {
            return Err(PyRuntimeError::new_err("dyt: torch refuses the kernels"));
        }
    }
    Ok(())
}

/// Whether torch took every kernel for a dispatch key.
fn register_for(shims: &Shims, namespace: &CStr, key: &CStr) -> bool {
    let mut library = core::ptr::null_mut();
    let (file, line) = (c"dyt", line!());
    // SAFETY: the strings end in NUL, torch copies them, and it writes one handle, which lives as long as the process.
    let made = unsafe {
        (shims.aoti_torch_library_init_impl)(
            namespace.as_ptr(),
            key.as_ptr(),
            file.as_ptr(),
            line,
            &raw mut library,
        )
    };
    // SAFETY: the library lives, and each kernel takes the stack of its schema.
    made == 0
        && KERNELS.iter().all(
            |&(name, kernel)| unsafe { (shims.aoti_torch_library_impl)(library, name.as_ptr(), kernel) } == 0,
        )
}

/// Names the stream for the calls that follow, by its address in the driver without a GPU.
#[cfg(feature = "simt")]
#[pyfunction]
fn torch_host_stream(address: usize) {
    let stream = core::ptr::with_exposed_provenance_mut(address);
    runner::cuda::HOST_STREAM.store(stream, core::sync::atomic::Ordering::Relaxed);
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[cfg(feature = "simt")]
    module.add_function(wrap_pyfunction!(torch_host_stream, module)?)?;
    module.add_function(wrap_pyfunction!(torch_register, module)?)
}
