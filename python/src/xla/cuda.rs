//! The handlers on NVIDIA GPUs: on XLA's stream, in XLA's memory. Nothing is allocated and nothing waits, so that XLA may
//! record the calls into CUDA graphs.

use core::ptr::null_mut;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dyt::Pass;
use dyt::cuda::CudaKernels;
use dyt::cuda::cudarc::driver::sys::{CUdevice, CUstream, cuCtxGetDevice};

use super::abi::{self, CallFrame, Error, Handler};
use super::frame::Failure;
use super::run::Target;
use super::{handle, run};

/// Each handler serves both stages: before the first run it loads the kernels, which no graph could record.
pub(super) const HANDLERS: [(&str, &str, Handler); 4] = [
    ("dyt_forward", "initialize", forward),
    ("dyt_forward", "execute", forward),
    ("dyt_backward", "initialize", backward),
    ("dyt_backward", "execute", backward),
];

/// # Safety
/// XLA makes the call.
unsafe extern "C" fn forward(frame: *mut CallFrame) -> *mut Error {
    // SAFETY: the caller's promise.
    unsafe { handle(frame, abi::COMMAND_BUFFER_COMPATIBLE, |frame| on_gpu(Pass::Forward, frame)) }
}

/// # Safety
/// XLA makes the call.
unsafe extern "C" fn backward(frame: *mut CallFrame) -> *mut Error {
    // SAFETY: the caller's promise.
    unsafe { handle(frame, abi::COMMAND_BUFFER_COMPATIBLE, |frame| on_gpu(Pass::Backward, frame)) }
}

/// # Safety
/// XLA made the frame, for a call that lasts, of the memory of the GPU whose context is current.
unsafe fn on_gpu(pass: Pass, frame: &CallFrame) -> Result<(), Failure> {
    let kernels = kernels(current()?)?;
    if frame.stage != abi::STAGE_EXECUTE {
        return Ok(());
    }
    // SAFETY: the caller's promise; the stream is of this call.
    unsafe { run(pass, frame, &Target::Cuda(&kernels, stream(frame)?)) }
}

/// The GPU whose context is current. XLA makes that of its call current, and so has loaded the driver.
fn current() -> Result<usize, Failure> {
    // Looked for first, because cudarc panics without a driver.
    dyt::cuda::driver()?;
    let mut device: CUdevice = 0;
    // SAFETY: the driver writes one number.
    let status = unsafe { cuCtxGetDevice(&raw mut device) };
    status.result().map_err(Failure::internal)?;
    usize::try_from(device).map_err(Failure::internal)
}

/// The kernels in the primary context, which XLA uses too. They are loaded once for each GPU.
fn kernels(ordinal: usize) -> Result<CudaKernels, Failure> {
    static LOADED: Mutex<Option<HashMap<usize, CudaKernels>>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(kernels) = loaded.get(&ordinal) {
        return Ok(kernels.clone());
    }
    let kernels = CudaKernels::open(ordinal)?;
    Ok(loaded.entry(ordinal).or_insert(kernels).clone())
}

/// The stream of the call.
///
/// # Safety
/// XLA made the frame, for a call that lasts.
unsafe fn stream(frame: &CallFrame) -> Result<CUstream, Failure> {
    let mut arguments = abi::StreamGetArgs {
        struct_size: size_of::<abi::StreamGetArgs>(),
        extension_start: null_mut(),
        context: frame.context,
        stream: null_mut(),
    };
    // SAFETY: the first functions of the table are the same in every version of this major one.
    unsafe {
        let error = ((*frame.api).stream_get)(&raw mut arguments);
        if error.is_null() {
            return Ok(arguments.stream.cast());
        }
        let mut error =
            abi::ErrorArgs { struct_size: size_of::<abi::ErrorArgs>(), extension_start: null_mut(), error };
        ((*frame.api).error_destroy)(&raw mut error);
        Err(Failure::internal("XLA gave no stream"))
    }
}
