//! What the driver says, as the crate's errors.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

use crate::{Backend, Error, Refusal};

/// The name and the text that the driver has for its error.
pub(super) fn describe(error: DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy());
    let text = error.error_string().map(|text| text.to_string_lossy());
    match (name, text) {
        (Ok(name), Ok(text)) => format!("{name}: {text}"),
        _ => format!("error {}", error.0 as u32),
    }
}

/// The backend refused.
pub(super) const fn refused(reason: Refusal) -> Error {
    Error::BackendUnavailable { backend: Backend::Cuda, reason }
}

/// An error of a call, `bytes` of which memory was asked for, if any.
pub(super) fn driver(error: DriverError, bytes: usize) -> Error {
    let backend = Backend::Cuda;
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { bytes },
        code if is_sticky(code) => Error::DeviceLost { backend, reason: describe(error) },
        _ => Error::Driver { backend, message: describe(error) },
    }
}

/// An error of a call that asks for no memory.
pub(super) fn call(error: DriverError) -> Error {
    driver(error, 0)
}

/// Whether a context is of no use after the error: every later call in it returns the same again.
const fn is_sticky(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED
    )
}
