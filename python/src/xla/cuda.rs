//! The handlers on NVIDIA GPUs: on XLA's stream, in XLA's memory. Nothing is allocated and nothing waits, so that XLA may
//! record the calls into CUDA graphs.

use core::ptr::null_mut;

use dyt::Pass;
use dyt::cuda::cudarc::driver::sys::CUstream;

use super::abi::{self, CallFrame, Error, Handler};
use super::frame::Failure;
use super::run::Target;
use super::{handle, run};
use crate::devices::cuda;

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
/// XLA made the frame, for a call that lasts, of the memory of the GPU that it names.
unsafe fn on_gpu(pass: Pass, frame: &CallFrame) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let kernels = cuda(unsafe { ordinal(frame)? })?;
    if frame.stage != abi::STAGE_EXECUTE {
        return Ok(());
    }
    // SAFETY: the caller's promise; the stream is of this call.
    unsafe { run(pass, frame, &Target::Cuda(kernels, stream(frame)?)) }
}

/// The number of the call's GPU.
///
/// # Safety
/// XLA made the frame, for a call that lasts.
unsafe fn ordinal(frame: &CallFrame) -> Result<usize, Failure> {
    let (struct_size, context) = (size_of::<abi::DeviceOrdinalGetArgs>(), frame.context);
    let mut arguments =
        abi::DeviceOrdinalGetArgs { struct_size, extension_start: null_mut(), context, ordinal: -1 };
    // SAFETY: the caller's promise.
    unsafe {
        let api = api(frame)?;
        refused(api, (api.device_ordinal_get)(&raw mut arguments), "number of a GPU")?;
    }
    usize::try_from(arguments.ordinal).map_err(Failure::internal)
}

/// The stream of the call.
///
/// # Safety
/// As [`ordinal`].
unsafe fn stream(frame: &CallFrame) -> Result<CUstream, Failure> {
    let (struct_size, context) = (size_of::<abi::StreamGetArgs>(), frame.context);
    let mut arguments =
        abi::StreamGetArgs { struct_size, extension_start: null_mut(), context, stream: null_mut() };
    // SAFETY: the caller's promise.
    unsafe {
        let api = api(frame)?;
        refused(api, (api.stream_get)(&raw mut arguments), "stream")?;
    }
    Ok(arguments.stream.cast())
}

/// XLA's functions, once it is known that the table has them.
///
/// # Safety
/// As [`ordinal`].
unsafe fn api(frame: &CallFrame) -> Result<&abi::Api, Failure> {
    // SAFETY: the table lives as long as the process.
    let api = unsafe { frame.api.as_ref() }.filter(|api| api.struct_size >= size_of::<abi::Api>());
    api.ok_or_else(|| Failure::internal("XLA's table of functions is shorter than was expected"))
}

/// The failure of a function of the table, if it gave an error, which is then destroyed.
///
/// # Safety
/// The error is null or was just given by XLA.
unsafe fn refused(api: &abi::Api, error: *mut Error, what: &str) -> Result<(), Failure> {
    if error.is_null() {
        return Ok(());
    }
    let struct_size = size_of::<abi::ErrorArgs>();
    let mut arguments = abi::ErrorArgs { struct_size, extension_start: null_mut(), error };
    // SAFETY: the caller's promise.
    unsafe { (api.error_destroy)(&raw mut arguments) };
    Err(Failure::internal(format_args!("XLA gave no {what}")))
}
