//! The device that a tensor lies on, and calls on it.

use std::sync::OnceLock;

use dyt::{DType, Device, Error, Pass, Problem};

use super::shims::shims;
use super::tensor::{Failure, Place, Tensor};
use crate::call::{BackwardAt, ForwardAt, Memory};
use crate::devices::limit_or;

/// What runs the calls of one kernel.
#[derive(Debug)]
pub(super) enum Runner {
    /// The processor.
    Cpu(&'static Device),
    /// A GPU, on the stream that is torch's current one.
    #[cfg(feature = "cuda")]
    Cuda(cuda::OnStream),
}

/// torch's own device of the library: its limit of threads is torch's number, and no other submodule's.
fn cpu() -> Result<&'static Device, Failure> {
    static CPU: OnceLock<Result<Device, Error>> = OnceLock::new();
    CPU.get_or_init(|| Device::open("cpu")).as_ref().map_err(failure)
}

pub(super) fn failure(error: &Error) -> Failure {
    format!("dyt: {error}")
}

impl Runner {
    /// The device of a tensor.
    ///
    /// # Errors
    /// The kernels do not run there.
    pub(super) fn at(place: Place) -> Result<Self, Failure> {
        #[cfg(feature = "simt")]
        if place.kind == shims().cpu {
            return cuda::OnStream::of_host().map(Self::Cuda);
        }
        if place.kind == shims().cpu {
            return cpu().map(Self::Cpu);
        }
        #[cfg(feature = "cuda")]
        if place.kind == shims().cuda_type {
            return cuda::OnStream::current(place.index).map(Self::Cuda);
        }
        Err("dyt: x lies on a device that the kernels do not run on; they run on cpu and cuda".to_owned())
    }

    fn memory(&self) -> Memory {
        match self {
            Self::Cpu(_) => Memory::Host,
            #[cfg(feature = "cuda")]
            Self::Cuda(on) => Memory::Cuda(on.ordinal()),
        }
    }

    /// Runs a forward.
    ///
    /// # Errors
    /// What the library says.
    ///
    /// # Safety
    /// As [`ForwardAt::arguments`]; on a GPU until the stream has done what was enqueued.
    pub(super) unsafe fn forward(&self, problem: &Problem, at: &ForwardAt) -> Result<(), Failure> {
        // SAFETY: promised by the caller.
        let arguments = unsafe { at.arguments(problem, self.memory()) };
        let done = match self {
            Self::Cpu(device) => {
                follow_torch(device);
                device.forward(problem, arguments)
            }
            #[cfg(feature = "cuda")]
            // SAFETY: the stream is torch's current one of this device; the rest is the caller's promise.
            Self::Cuda(on) => unsafe { on.kernels().forward_on(on.stream().cast(), problem, arguments) },
        };
        done.map_err(|error| failure(&error))
    }

    /// Runs a backward, in a workspace by torch's allocator.
    ///
    /// # Errors
    /// What the library says, or torch has no memory.
    ///
    /// # Safety
    /// As [`Self::forward`].
    pub(super) unsafe fn backward(
        &self,
        problem: &Problem,
        at: &BackwardAt,
        place: Place,
    ) -> Result<(), Failure> {
        let bytes = match self {
            Self::Cpu(device) => device.workspace_bytes(problem, Pass::Backward),
            #[cfg(feature = "cuda")]
            Self::Cuda(on) => on.kernels().workspace_bytes(problem, Pass::Backward),
        };
        let words = bytes.div_ceil(size_of::<f32>());
        let workspace =
            if words == 0 { None } else { Some(Tensor::contiguous(&[words as i64], DType::F32, place)?) };
        let address = workspace.as_ref().map_or(Ok(0), |workspace| workspace.address("the workspace"))?;
        // SAFETY: it holds as many words; torch's allocator hands it out again on the same stream alone.
        let space = unsafe { self.memory().view_mut(address, words, DType::F32) };
        // SAFETY: promised by the caller.
        let arguments = unsafe { at.arguments(problem, self.memory()) };
        let done = match self {
            Self::Cpu(device) => {
                follow_torch(device);
                device.backward_with(problem, arguments, space)
            }
            #[cfg(feature = "cuda")]
            // SAFETY: as in `forward`.
            Self::Cuda(on) => unsafe {
                on.kernels().backward_on(on.stream().cast(), problem, arguments, space)
            },
        };
        // A graph that captures this call runs in that memory later. torch's allocator for GPUs keeps it for the graph, and
        // the one for the host does not.
        #[cfg(feature = "simt")]
        core::mem::forget(workspace);
        done.map_err(|error| failure(&error))
    }
}

/// A call takes as many threads as `dyt.set_threads` or else torch says, if it is large enough for several.
fn follow_torch(device: &Device) {
    device.set_threads(limit_or(shims().threads()));
}

#[cfg(feature = "cuda")]
pub(super) mod cuda {
    use core::ffi::c_void;
    #[cfg(feature = "simt")]
    use core::sync::atomic::{AtomicPtr, Ordering};

    use dyt::cuda::CudaKernels;

    use super::{Failure, failure, shims};

    /// The stream that a test has named; NULL is the default one.
    #[cfg(feature = "simt")]
    pub(in crate::torch) static HOST_STREAM: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

    /// The kernels of a GPU, which is the thread's current device until this is dropped, and torch's stream there.
    #[derive(Debug)]
    pub(in crate::torch) struct OnStream {
        kernels: &'static CudaKernels,
        stream: *mut c_void,
        _guard: Guard,
    }

    /// Puts back the thread's current device when it is dropped; null where nothing is to be put back.
    #[derive(Debug)]
    struct Guard(*mut c_void);

    impl OnStream {
        /// # Errors
        /// This torch has no CUDA, or the kernels do not load there.
        pub(super) fn current(index: i32) -> Result<Self, Failure> {
            let cuda = shims().cuda.as_ref().ok_or("dyt: this torch was built without CUDA")?;
            // Loading the kernels and launching them make the device current: the guard puts back what was.
            let mut guard = core::ptr::null_mut();
            // SAFETY: it writes one pointer.
            let guarded = unsafe { (cuda.create_guard)(index, &raw mut guard) } == 0;
            let guard = Guard(if guarded { guard } else { core::ptr::null_mut() });
            let mut stream = core::ptr::null_mut();
            // SAFETY: it writes one pointer.
            if !guarded || unsafe { (cuda.current_stream)(index, &raw mut stream) } != 0 {
                return Err(format!("dyt: torch has no current stream of cuda:{index}"));
            }
            Ok(Self { kernels: kernels(index)?, stream, _guard: guard })
        }
        /// The stream of [`HOST_STREAM`], on a driver whose memory is the host's.
        #[cfg(feature = "simt")]
        pub(super) fn of_host() -> Result<Self, Failure> {
            Ok(Self {
                kernels: kernels(0)?,
                stream: HOST_STREAM.load(Ordering::Relaxed),
                _guard: Guard(core::ptr::null_mut()),
            })
        }
        pub(super) fn ordinal(&self) -> usize {
            self.kernels.ordinal()
        }
        pub(super) const fn kernels(&self) -> &'static CudaKernels {
            self.kernels
        }
        pub(super) const fn stream(&self) -> *mut c_void {
            self.stream
        }
    }

    fn kernels(index: i32) -> Result<&'static CudaKernels, Failure> {
        crate::devices::cuda(usize::try_from(index).unwrap_or(0)).map_err(|error| failure(&error))
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            if let (Some(cuda), false) = (shims().cuda.as_ref(), self.0.is_null()) {
                // SAFETY: it was made by `create_guard`, and is not used again.
                unsafe { (cuda.delete_guard)(self.0) };
            }
        }
    }
}
