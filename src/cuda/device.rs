//! The safe layer: a device with buffers of its own, all of whose work is on one stream.

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUevent_flags;

use super::CudaKernels;
use super::buffer::{self, CudaMemory};
use super::error::call;
use super::probe;
use super::ptx::Ptx;
use crate::ops::{BackwardPtrs, ForwardPtrs, Memory};
use crate::view::View;
use crate::{Argument, Backend, Buffer, DType, Error, Problem, Result, ViewMut};

/// One GPU. Every value for the same GPU shares one context and one stream, so that buffers of one may be used with
/// another.
#[derive(Clone, Debug)]
pub(crate) struct Cuda {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kernels: CudaKernels,
    stream: Arc<CudaStream>,
}

/// The devices that are open.
static OPEN: Mutex<Vec<(usize, Weak<Shared>)>> = Mutex::new(Vec::new());

impl Cuda {
    /// The GPU of that number, from 0.
    pub(crate) fn open(ordinal: usize) -> Result<Self> {
        // Held while the kernels are loaded, so that two threads do not both load them.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().find(|(number, _)| *number == ordinal);
        if let Some(shared) = known.and_then(|(_, device)| device.upgrade()) {
            return Ok(Self { shared });
        }
        let kernels = CudaKernels::open(ordinal)?;
        // The default stream: what frameworks enqueue on streams of their own that block is ordered with it.
        let stream = kernels.context().default_stream();
        let shared = Arc::new(Shared { kernels, stream });
        open.retain(|(number, _)| *number != ordinal);
        open.push((ordinal, Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// The name that opens it.
    pub(crate) fn name(&self) -> String {
        format!("cuda:{}", self.ordinal())
    }

    /// What it is, and which kernels are loaded.
    pub(crate) fn description(&self) -> String {
        let kernels = &self.shared.kernels;
        let name = kernels.context().name().unwrap_or_else(|_| "unnamed".to_owned());
        let capability = probe::device(self.ordinal());
        let capability =
            capability.map_or_else(|_| String::new(), |(major, minor)| format!(" ({major}.{minor})"));
        // Mostly one; more where a file has PTX for a newer architecture than the others.
        let mut made: Vec<_> = kernels.sources().iter().map(|ptx| describe_ptx(ptx)).collect();
        made.sort_unstable();
        made.dedup();
        let source = made.join(" and ");
        let fallback = kernels.fallback().map_or_else(String::new, |reason| {
            format!("; the driver took no other: {}", reason.lines().next().unwrap_or_default())
        });
        format!("{name}{capability}, {source}{fallback}")
    }

    pub(crate) fn kernels(&self) -> &CudaKernels {
        &self.shared.kernels
    }

    fn ordinal(&self) -> usize {
        self.shared.kernels.ordinal()
    }

    /// The memory that it reaches.
    pub(crate) fn memory(&self) -> Memory {
        Memory::Cuda(self.ordinal())
    }

    pub(crate) fn zeros(&self, dtype: DType, len: usize) -> Result<Buffer> {
        let mut memory = CudaMemory::new(&self.shared.stream, Buffer::size_of(dtype, len)?)?;
        memory.clear()?;
        Ok(Buffer::from_cuda(memory, dtype, len))
    }

    /// From host memory.
    pub(crate) fn upload(&self, source: View<'_>) -> Result<Buffer> {
        let (dtype, len) = (source.dtype(), source.len());
        let bytes = Buffer::size_of(dtype, len)?;
        let mut memory = CudaMemory::new(&self.shared.stream, bytes)?;
        // SAFETY: a view of host memory is valid for reads of its elements, and its address is never null.
        memory.write(unsafe { core::slice::from_raw_parts(source.as_ptr(), bytes) })?;
        Ok(Buffer::from_cuda(memory, dtype, len))
    }

    /// From host memory to device memory of as many elements.
    ///
    /// # Safety
    /// The target is a view of this device's memory.
    pub(crate) unsafe fn write(&self, source: View<'_>, target: &ViewMut<'_>) -> Result<()> {
        let bytes = Buffer::size_of(source.dtype(), source.len())?;
        // SAFETY: a view of host memory is valid for reads of its elements; one of device memory by its maker's promise.
        unsafe {
            let source = core::slice::from_raw_parts(source.as_ptr(), bytes);
            buffer::write(&self.shared.stream, target.address().addr() as u64, source)
        }
    }

    /// From device memory to host memory of as many elements.
    ///
    /// # Safety
    /// The source is a view of this device's memory.
    pub(crate) unsafe fn read(&self, source: View<'_>, target: &ViewMut<'_>) -> Result<()> {
        let bytes = Buffer::size_of(source.dtype(), source.len())?;
        // SAFETY: a view of host memory is exclusive and valid for writes of its elements, which are initialised; one of
        // device memory is valid by its maker's promise.
        unsafe {
            let target = core::slice::from_raw_parts_mut(target.address(), bytes);
            buffer::read(&self.shared.stream, source.as_ptr().addr() as u64, target)
        }
    }

    pub(crate) fn copy(&self, source: &Buffer, target: &mut Buffer) -> Result<()> {
        let source = self.own(Argument::X, source)?;
        self.own(Argument::Y, target)?;
        let actual = target.backend();
        let target = target.cuda_mut().ok_or(Error::WrongDevice {
            argument: Argument::Y,
            expected: Backend::Cuda,
            actual,
        })?;
        target.copy(source)
    }

    /// The memory of a buffer, if it is this device's.
    fn own<'a>(&self, argument: Argument, buffer: &'a Buffer) -> Result<&'a CudaMemory> {
        let (expected, actual) = (Backend::Cuda, buffer.backend());
        let memory = buffer.cuda().filter(|memory| memory.ordinal() == self.ordinal());
        memory.ok_or(Error::WrongDevice { argument, expected, actual })
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        self.shared.stream.synchronize().map_err(call)
    }

    /// By events on the stream, before and behind the work.
    pub(crate) fn elapsed(&self, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let (context, stream) = (self.shared.kernels.context(), &self.shared.stream);
        let event = || context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(call);
        let (begin, end) = (event()?, event()?);
        begin.record(stream).map_err(call)?;
        work()?;
        end.record(stream).map_err(call)?;
        let milliseconds = begin.elapsed_ms(&end).map_err(call)?;
        Ok(Duration::try_from_secs_f64(f64::from(milliseconds) / 1e3).unwrap_or_default())
    }

    /// # Safety
    /// The arguments were checked against [`Self::memory`].
    pub(crate) unsafe fn forward(&self, problem: &Problem, pointers: &ForwardPtrs) -> Result<()> {
        let Shared { kernels, stream } = &*self.shared;
        // SAFETY: buffers are freed in the order of this stream, on which all work of the safe layer is; for other
        // views their makers have promised what is asked for here.
        unsafe { kernels.enqueue_forward(stream.cu_stream(), problem, pointers) }
    }

    /// # Safety
    /// The arguments and the workspace were checked against [`Self::memory`].
    pub(crate) unsafe fn backward(
        &self,
        problem: &Problem,
        pointers: &BackwardPtrs,
        workspace: *mut u8,
    ) -> Result<()> {
        let Shared { kernels, stream } = &*self.shared;
        // SAFETY: as in `forward`.
        unsafe { kernels.enqueue_backward(stream.cu_stream(), problem, pointers, workspace) }
    }
}

/// How a file of PTX was made and for what: `prebuilt PTX for sm_80`.
fn describe_ptx(ptx: &Ptx) -> String {
    let made = if ptx.is_prebuilt() { "prebuilt" } else { "nvcc's" };
    format!("{made} PTX for sm_{}", ptx.architecture())
}
