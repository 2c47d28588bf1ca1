//! The stream of the caller, and the CUDA context that is current to it.

use core::ffi::c_void;

use dyt::{Backend, Backward, Device, Forward, Problem, ViewMut};

use crate::status::{Failure, Outcome};

/// What a call is enqueued on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream<'a> {
    /// The device's own.
    Own(&'a Device),
    /// One of the caller's.
    #[cfg(feature = "cuda")]
    Cuda(&'a dyt::cuda::CudaKernels, dyt::cuda::cudarc::driver::sys::CUstream),
}

impl<'a> Stream<'a> {
    /// What the caller's pointer means on that device.
    pub(crate) fn of(device: &'a Device, stream: *mut c_void) -> Outcome<Self> {
        if stream.is_null() {
            return Ok(Self::Own(device));
        }
        #[cfg(feature = "cuda")]
        if let Some(kernels) = device.cuda_kernels() {
            return Ok(Self::Cuda(kernels, stream.cast()));
        }
        match device.backend() {
            Backend::Cpu => Ok(Self::Own(device)),
            other => Err(Failure::invalid(format!("stream is not NULL, and devices of {other} have none"))),
        }
    }

    /// Runs a forward on it.
    ///
    /// # Safety
    /// A stream of the caller's belongs to the device's primary context, and the views are valid until its work is done.
    pub(crate) unsafe fn forward(self, problem: &Problem, arguments: Forward<'_>) -> dyt::Result<()> {
        match self {
            Self::Own(device) => device.forward(problem, arguments),
            #[cfg(feature = "cuda")]
            // SAFETY: promised by the caller.
            Self::Cuda(kernels, stream) => unsafe { kernels.forward_on(stream, problem, arguments) },
        }
    }

    /// Runs a backward on it.
    ///
    /// # Safety
    /// As [`Self::forward`].
    pub(crate) unsafe fn backward(
        self,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: ViewMut<'_>,
    ) -> dyt::Result<()> {
        match self {
            Self::Own(device) => device.backward_with(problem, arguments, workspace),
            #[cfg(feature = "cuda")]
            // SAFETY: promised by the caller.
            Self::Cuda(kernels, stream) => unsafe {
                kernels.backward_on(stream, problem, arguments, workspace)
            },
        }
    }
}

/// Puts the caller's CUDA context back when it is dropped: the library makes its own current to the thread.
#[derive(Debug)]
pub(crate) struct Current {
    /// Where the driver is there; null if none was current.
    #[cfg(feature = "cuda")]
    context: Option<dyt::cuda::cudarc::driver::sys::CUcontext>,
}

impl Current {
    /// What is current now, if the device is one of CUDA.
    pub(crate) fn of(device: &Device) -> Self {
        Self::if_cuda(device.backend() == Backend::Cuda)
    }

    /// What is current now, if a device of that name may be one of CUDA.
    pub(crate) fn before(name: &str) -> Self {
        Self::if_cuda(name == "auto" || name.starts_with("cuda"))
    }

    #[cfg(feature = "cuda")]
    fn if_cuda(cuda: bool) -> Self {
        use dyt::cuda::{cudarc::driver::result::ctx, driver};
        // Asked only where the driver is there, without which the call panics.
        let known = cuda && driver().is_ok();
        let current = || Some(ctx::get_current().ok()?.unwrap_or(core::ptr::null_mut()));
        Self { context: if known { current() } else { None } }
    }
    #[cfg(not(feature = "cuda"))]
    const fn if_cuda(_cuda: bool) -> Self {
        Self {}
    }
}

#[cfg(feature = "cuda")]
impl Drop for Current {
    fn drop(&mut self) {
        use dyt::cuda::cudarc::driver::result::ctx;
        if let Some(context) = self.context {
            // SAFETY: it was current to this thread when the call began, and its owner keeps it during the call; null
            // makes none current. There is nobody to whom an error could be told.
            let _ = unsafe { ctx::set_current(context) };
        }
    }
}
