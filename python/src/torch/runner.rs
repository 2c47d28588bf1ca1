//! The device that a tensor lies on, and calls on it.

use core::ffi::c_void;
use std::sync::OnceLock;

use dyt::{DType, Device, Error, Pass, Problem};

use super::shims::shims;
use super::tensor::{Failure, Place, Tensor};
use crate::call::{BackwardAt, ForwardAt, Memory};
use crate::devices::limit_or;

/// Problems with fewer elements stay on the calling thread.
const SEVERAL_THREADS: usize = 131_072;

/// What runs the calls of one kernel.
#[derive(Debug)]
pub(super) enum Runner {
    /// The processor.
    Cpu(&'static Device),
    /// A GPU, on the stream that is torch's current one.
    #[cfg(feature = "cuda")]
    Cuda(cuda::OnStream),
}

/// torch's own device of the library: its limit of threads is torch's number, and no other door's.
fn cpu() -> Result<&'static Device, Failure> {
    static CPU: OnceLock<Result<Device, Error>> = OnceLock::new();
    CPU.get_or_init(|| Device::open("cpu")).as_ref().map_err(failure)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "for `map_err`")]
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
                follow_torch(device, problem);
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
        let address = workspace.as_ref().map_or(0, Tensor::address);
        // SAFETY: it holds as many words; torch's allocator hands it out again on the same stream alone.
        let space = unsafe { self.memory().view_mut(address, words, DType::F32) };
        // SAFETY: promised by the caller.
        let arguments = unsafe { at.arguments(problem, self.memory()) };
        let done = match self {
            Self::Cpu(device) => {
                follow_torch(device, problem);
                device.backward_with(problem, arguments, space)
            }
            #[cfg(feature = "cuda")]
            // SAFETY: as in `forward`.
            Self::Cuda(on) => unsafe {
                on.kernels().backward_on(on.stream().cast(), problem, arguments, space)
            },
        };
        done.map_err(|error| failure(&error))
    }
}

/// A large call takes as many threads as `dyt.set_threads` or else torch says.
fn follow_torch(device: &Device, problem: &Problem) {
    if problem.elements() >= SEVERAL_THREADS {
        device.set_threads(limit_or(shims().threads()));
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::{Error, Failure, OnceLock, c_void, failure, shims};
    use dyt::cuda::CudaKernels;

    /// GPUs of one process at most.
    const DEVICES: usize = 64;

    /// The kernels of a GPU, which is the thread's current device until this is dropped, and torch's stream there.
    #[derive(Debug)]
    pub(in crate::torch) struct OnStream {
        kernels: &'static CudaKernels,
        stream: *mut c_void,
        guard: *mut c_void,
    }

    impl OnStream {
        /// # Errors
        /// This torch has no CUDA, or the kernels do not load there.
        pub(super) fn current(index: i32) -> Result<Self, Failure> {
            let cuda = shims().cuda.as_ref().ok_or("dyt: this torch was built without CUDA")?;
            let (mut stream, mut guard) = (core::ptr::null_mut(), core::ptr::null_mut());
            // Loading the kernels and launching them make the device current: the guard puts back what was.
            // SAFETY: both write one pointer.
            let status = unsafe {
                (cuda.create_guard)(index, &raw mut guard) | (cuda.current_stream)(index, &raw mut stream)
            };
            // Made before the kernels are looked at, so that the guard is dropped whatever they say.
            let mut on = Self { kernels: kernels(index)?, stream, guard };
            if status != 0 {
                on.guard = core::ptr::null_mut();
                return Err(format!("dyt: torch has no current stream of cuda:{index}"));
            }
            Ok(on)
        }
        /// The default stream of a driver whose memory is the host's.
        #[cfg(feature = "simt")]
        pub(super) fn of_host() -> Result<Self, Failure> {
            Ok(Self { kernels: kernels(0)?, stream: core::ptr::null_mut(), guard: core::ptr::null_mut() })
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

    impl Drop for OnStream {
        fn drop(&mut self) {
            if let (Some(cuda), false) = (shims().cuda.as_ref(), self.guard.is_null()) {
                // SAFETY: it was made by `create_guard`, and is not used again.
                unsafe { (cuda.delete_guard)(self.guard) };
            }
        }
    }

    /// The kernels of the GPU of that number, loaded when a call first needs them.
    fn kernels(index: i32) -> Result<&'static CudaKernels, Failure> {
        static KERNELS: [OnceLock<Result<CudaKernels, Error>>; DEVICES] =
            [const { OnceLock::new() }; DEVICES];
        let ordinal = usize::try_from(index).unwrap_or(0);
        let slot = KERNELS
            .get(ordinal)
            .ok_or_else(|| format!("dyt: cuda:{ordinal} is beyond the {DEVICES} GPUs of a process"))?;
        slot.get_or_init(|| CudaKernels::open(ordinal)).as_ref().map_err(failure)
    }
}
