//! The layer for frameworks: the caller's context, stream and memory.

use core::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUstream, cuLaunchKernel};
use cudarc::driver::{CudaContext, CudaStream};

use super::error::{call, driver};
use super::module::Modules;
use super::plan::{self, BackwardAddresses, ForwardAddresses, Launch, Launches};
use super::probe;
use super::ptx::Ptx;
use crate::ops::{BackwardPtrs, ForwardPtrs, Memory};
use crate::{Backend, Backward, Error, Forward, Pass, Problem, Result, ViewMut};

/// The kernels, loaded into a context of the caller's. Cheap to clone; safe to share between threads.
///
/// The arguments are views of device memory, made with [`View::from_cuda`](crate::View::from_cuda), or with
/// [`view`](super::view()) from what cudarc owns. A call checks them, enqueues at most two launches and returns: it
/// allocates nothing, waits for nothing, and may be captured in a CUDA graph.
///
/// ```no_run
/// use dyt::cuda::{CudaKernels, cudarc::driver::CudaContext, view, view_mut};
/// use dyt::{Forward, Op, Problem};
///
/// let kernels = CudaKernels::open(0)?;
/// let stream = kernels.context().default_stream();
/// let problem = Problem::new(Op::Dyt, 4096, 1024).build()?;
/// # fn f(e: dyt::cuda::cudarc::driver::DriverError) -> dyt::Error { panic!("{e}") }
/// let x = stream.alloc_zeros::<f32>(4096 * 1024).map_err(f)?;
/// let alpha = stream.clone_htod(&[0.5_f32]).map_err(f)?;
/// let mut y = stream.alloc_zeros::<f32>(4096 * 1024).map_err(f)?;
/// // SAFETY: the views are used on the stream that they were made for alone, and the guards live as long.
/// unsafe {
///     let (x, _x) = view(&x, &stream);
///     let (alpha, _alpha) = view(&alpha, &stream);
///     let (y, _y) = view_mut(&mut y, &stream);
///     kernels.forward(&stream, &problem, Forward::new(x, y).alpha(alpha))?;
/// }
/// # Ok::<(), dyt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CudaKernels {
    modules: Arc<Modules>,
}

impl CudaKernels {
    /// Loads the kernels into the primary context of a device, which the CUDA runtime and most frameworks use.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] with the reason: there is no driver, it is too old, there is no such GPU, the GPU is
    /// too old, or the driver takes none of the PTX. [`Error::OutOfMemory`], [`Error::DeviceLost`], [`Error::Driver`].
    pub fn open(ordinal: usize) -> Result<Self> {
        // Looked at first, because cudarc panics without a driver.
        probe::device(ordinal)?;
        Self::new(&CudaContext::new(ordinal).map_err(call)?)
    }

    /// Loads the kernels into a context. The driver compiles them for its GPU when it does not have them in its cache:
    /// some seconds, once.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let capability = probe::device(context.ordinal())?;
        context.bind_to_thread().map_err(call)?;
        Ok(Self { modules: Arc::new(Modules::load(context, capability)?) })
    }

    /// The context that they are loaded into.
    #[must_use]
    pub fn context(&self) -> &Arc<CudaContext> {
        self.modules.context()
    }
    /// The number of the device.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.context().ordinal()
    }
    /// The PTX that was loaded, one of each file of `kernels/`.
    #[must_use]
    pub fn sources(&self) -> &[&'static Ptx] {
        &self.modules.sources
    }
    /// Why the driver did not take better PTX, if it did not.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.modules.fallback.as_deref()
    }
    /// Bytes of workspace that a call needs, whatever gradients it asks for; the same on every GPU.
    #[must_use]
    pub fn workspace_bytes(&self, problem: &Problem, pass: Pass) -> usize {
        plan::workspace_bytes(problem, pass)
    }

    /// Enqueues a forward.
    ///
    /// # Errors
    /// As [`Device::forward`](crate::Device::forward).
    ///
    /// # Safety
    /// The stream belongs to [`Self::context`]. Until the work that is enqueued has ended, every argument is valid on the
    /// device, and no work that the stream does not order writes to an argument or reads an output.
    pub unsafe fn forward(
        &self,
        stream: &CudaStream,
        problem: &Problem,
        arguments: Forward<'_>,
    ) -> Result<()> {
        // SAFETY: the caller's promise; a `CudaStream` is a stream that lives.
        unsafe { self.forward_on(stream.cu_stream(), problem, arguments) }
    }

    /// Enqueues a forward on a raw stream; null is the default stream.
    ///
    /// # Errors
    /// As [`Device::forward`](crate::Device::forward).
    ///
    /// # Safety
    /// As [`Self::forward`]; the stream lives.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as Device::forward: the call uses up the mutable views"
    )]
    pub unsafe fn forward_on(
        &self,
        stream: CUstream,
        problem: &Problem,
        arguments: Forward<'_>,
    ) -> Result<()> {
        let pointers = arguments.check(problem, self.memory())?;
        // SAFETY: the arguments were checked; the rest is the caller's promise.
        unsafe { self.enqueue_forward(stream, problem, &pointers) }
    }

    /// Enqueues a backward. The workspace holds at least [`Self::workspace_bytes`], of any dtype, aligned to 4 bytes, and
    /// its contents are neither read nor of use afterwards.
    ///
    /// # Errors
    /// As [`Device::backward_with`](crate::Device::backward_with).
    ///
    /// # Safety
    /// As [`Self::forward`], also of the workspace.
    pub unsafe fn backward(
        &self,
        stream: &CudaStream,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: ViewMut<'_>,
    ) -> Result<()> {
        // SAFETY: the caller's promise; a `CudaStream` is a stream that lives.
        unsafe { self.backward_on(stream.cu_stream(), problem, arguments, workspace) }
    }

    /// Enqueues a backward on a raw stream; null is the default stream.
    ///
    /// # Errors
    /// As [`Device::backward_with`](crate::Device::backward_with).
    ///
    /// # Safety
    /// As [`Self::backward`]; the stream lives.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as Device::backward_with: the call uses up the mutable views"
    )]
    pub unsafe fn backward_on(
        &self,
        stream: CUstream,
        problem: &Problem,
        arguments: Backward<'_>,
        workspace: ViewMut<'_>,
    ) -> Result<()> {
        let bytes = plan::workspace_bytes(problem, Pass::Backward);
        let pointers = arguments.check(problem, self.memory(), Some((&workspace, bytes)))?;
        // SAFETY: the arguments and the workspace were checked; the rest is the caller's promise.
        unsafe { self.enqueue_backward(stream, problem, &pointers, workspace.address()) }
    }

    /// # Safety
    /// As [`Self::forward_on`]; the arguments were checked.
    pub(super) unsafe fn enqueue_forward(
        &self,
        stream: CUstream,
        problem: &Problem,
        pointers: &ForwardPtrs,
    ) -> Result<()> {
        let launches = plan::forward(problem, &pointers.into(), self.modules.limits);
        // SAFETY: the plan's launches stay within the arguments of a checked call; the rest is the caller's promise.
        unsafe { self.launch(stream, &launches) }
    }

    /// # Safety
    /// As [`Self::backward_on`]; the arguments and the workspace were checked.
    pub(super) unsafe fn enqueue_backward(
        &self,
        stream: CUstream,
        problem: &Problem,
        pointers: &BackwardPtrs,
        workspace: *mut u8,
    ) -> Result<()> {
        let mut at = BackwardAddresses::from(pointers);
        at.workspace = workspace.addr() as u64;
        let launches = plan::backward(problem, &at, self.modules.limits);
        // SAFETY: as in `enqueue_forward`; the workspace has the bytes that the plan counts on.
        unsafe { self.launch(stream, &launches) }
    }

    fn memory(&self) -> Memory {
        Memory::Cuda(self.ordinal())
    }

    /// # Safety
    /// The addresses in the launches are valid for what the kernels do with them, and the stream lives in the context.
    unsafe fn launch(&self, stream: CUstream, launches: &Launches) -> Result<()> {
        self.context().bind_to_thread().map_err(call)?;
        for launch in launches.iter() {
            // SAFETY: the caller's promise.
            unsafe { self.launch_one(stream, launch)? };
        }
        Ok(())
    }

    /// # Safety
    /// As [`Self::launch`].
    unsafe fn launch_one(&self, stream: CUstream, launch: &Launch) -> Result<()> {
        let Launch { entry, grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes, .. } = *launch;
        let function = self.modules.function(entry).ok_or_else(|| Error::Driver {
            backend: Backend::Cuda,
            message: format!("{} was not loaded", entry.name()),
        })?;
        // The driver copies the parameter before it returns, and does not write to it.
        let mut parameters = [launch.args.as_bytes().as_ptr().cast_mut().cast::<c_void>()];
        let (parameters, extra) = (parameters.as_mut_ptr(), core::ptr::null_mut());
        // SAFETY: the kernel takes one parameter of the size of these arguments (the tests compare them for every
        // kernel), and the rest is the caller's promise.
        let status = unsafe {
            cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared_bytes, stream, parameters, extra)
        };
        status.result().map_err(|error| driver(error, shared_bytes as usize))
    }
}

impl From<&ForwardPtrs> for ForwardAddresses {
    fn from(at: &ForwardPtrs) -> Self {
        Self {
            x: at.x.addr() as u64,
            residual: at.residual.addr() as u64,
            sum: at.sum.addr() as u64,
            alpha: at.alpha.addr() as u64,
            shift: at.shift.addr() as u64,
            gamma: at.gamma.addr() as u64,
            beta: at.beta.addr() as u64,
            y: at.y.addr() as u64,
            mean: at.mean.addr() as u64,
            rstd: at.rstd.addr() as u64,
        }
    }
}

impl From<&BackwardPtrs> for BackwardAddresses {
    /// Without the workspace.
    fn from(at: &BackwardPtrs) -> Self {
        Self {
            dy: at.dy.addr() as u64,
            x: at.x.addr() as u64,
            dsum: at.dsum.addr() as u64,
            alpha: at.alpha.addr() as u64,
            shift: at.shift.addr() as u64,
            gamma: at.gamma.addr() as u64,
            mean: at.mean.addr() as u64,
            rstd: at.rstd.addr() as u64,
            dx: at.dx.addr() as u64,
            dalpha: at.dalpha.addr() as u64,
            dshift: at.dshift.addr() as u64,
            dgamma: at.dgamma.addr() as u64,
            dbeta: at.dbeta.addr() as u64,
            workspace: 0,
        }
    }
}
