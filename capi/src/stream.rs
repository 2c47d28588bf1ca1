//! The stream of the caller, and the CUDA context that is current to it.

use core::ffi::c_void;

use dyt::{Backward, Device, Forward, Problem, ViewMut};

use crate::status::Outcome;

/// Runs a forward on the caller's stream, or on the device's own for NULL.
///
/// # Safety
/// On CUDA, `stream` is NULL or a stream of the device's primary context, and the views are valid until its work is done.
pub(crate) unsafe fn forward(
    device: &Device,
    problem: &Problem,
    arguments: Forward<'_>,
    stream: *mut c_void,
) -> Outcome {
    #[cfg(feature = "cuda")]
    if let (Some(kernels), false) = (device.cuda_kernels(), stream.is_null()) {
        // SAFETY: promised by the caller.
        return Ok(unsafe { kernels.forward_on(stream.cast(), problem, arguments) }?);
    }
    let _ = stream;
    Ok(device.forward(problem, arguments)?)
}

/// Runs a backward, as [`forward`].
///
/// # Safety
/// As [`forward`].
pub(crate) unsafe fn backward(
    device: &Device,
    problem: &Problem,
    arguments: Backward<'_>,
    workspace: ViewMut<'_>,
    stream: *mut c_void,
) -> Outcome {
    #[cfg(feature = "cuda")]
    if let (Some(kernels), false) = (device.cuda_kernels(), stream.is_null()) {
        // SAFETY: promised by the caller.
        return Ok(unsafe { kernels.backward_on(stream.cast(), problem, arguments, workspace) }?);
    }
    let _ = stream;
    Ok(device.backward_with(problem, arguments, workspace)?)
}

/// Puts the caller's CUDA context back when it is dropped: the library makes its own current to the thread.
#[derive(Debug)]
pub(crate) struct Current {
    #[cfg(feature = "cuda")]
    context: Option<dyt::cuda::cudarc::driver::sys::CUcontext>,
    #[cfg(feature = "cuda")]
    cuda: bool,
}

impl Current {
    /// What is current now, if the device is one of CUDA.
    #[cfg(feature = "cuda")]
    pub(crate) fn of(device: &Device) -> Self {
        use dyt::cuda::cudarc::driver::result::ctx;
        let cuda = device.ordinal().is_some();
        // Asked only where the driver is there, without which the call panics.
        let context = if cuda { ctx::get_current().ok().flatten() } else { None };
        Self { context, cuda }
    }
    #[cfg(not(feature = "cuda"))]
    pub(crate) const fn of(_device: &Device) -> Self {
        Self {}
    }
}

#[cfg(feature = "cuda")]
impl Drop for Current {
    fn drop(&mut self) {
        use dyt::cuda::cudarc::driver::result::ctx;
        if self.cuda {
            let context = self.context.unwrap_or(core::ptr::null_mut());
            // SAFETY: it was current to this thread when the call began, and its owner keeps it during the call; null
            // makes none current. There is nobody to whom an error could be told.
            let _ = unsafe { ctx::set_current(context) };
        }
    }
}
