//! Device memory of the safe layer, allocated and freed in the order of its stream.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaStream, result};

use super::error::{call, driver};
use crate::Result;

/// Memory on a device; it holds the context.
#[derive(Debug)]
pub(crate) struct CudaMemory {
    stream: Arc<CudaStream>,
    address: CUdeviceptr,
    bytes: usize,
}

impl CudaMemory {
    /// Uninitialised memory, at least one byte, so that its address is never that of an absent argument.
    pub(super) fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        let context = stream.context();
        context.bind_to_thread().map_err(call)?;
        let stream = Arc::clone(stream);
        let taken = bytes.max(1);
        // SAFETY: the context is current and the stream is of it.
        let address = unsafe {
            match stream.context().has_async_alloc() {
                true => result::malloc_async(stream.cu_stream(), taken),
                false => result::malloc_sync(taken),
            }
        };
        let address = address.map_err(|error| driver(error, taken))?;
        Ok(Self { stream, address, bytes })
    }

    /// The address of the first byte.
    pub(crate) const fn address(&self) -> CUdeviceptr {
        self.address
    }
    /// The number of the device.
    pub(crate) fn ordinal(&self) -> usize {
        self.stream.context().ordinal()
    }

    /// Sets every byte to 0.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(call)?;
        if self.bytes == 0 {
            return Ok(());
        }
        // SAFETY: the memory has as many bytes, and is touched in the order of the stream alone.
        unsafe { result::memset_d8_async(self.address, 0, self.bytes, self.stream.cu_stream()) }.map_err(call)
    }

    /// Copies from host memory, and waits until that is done.
    pub(super) fn write(&mut self, source: &[u8]) -> Result<()> {
        debug_assert_eq!(source.len(), self.bytes);
        // SAFETY: the memory has as many bytes, and is touched in the order of the stream alone.
        unsafe { write(&self.stream, self.address, source) }
    }

    /// Enqueues a copy from other memory of the same length.
    pub(super) fn copy(&mut self, source: &Self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(call)?;
        let bytes = self.bytes.min(source.bytes);
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both have as many bytes, are apart because one is borrowed mutably, and are touched in the order of
        // one stream.
        unsafe { result::memcpy_dtod_async(self.address, source.address, bytes, self.stream.cu_stream()) }
            .map_err(call)
    }
}

/// Copies from host memory to an address of the stream's device, and waits until that is done.
///
/// # Safety
/// As many bytes at the address are valid, and nothing that the stream does not order touches them.
pub(super) unsafe fn write(stream: &CudaStream, address: CUdeviceptr, source: &[u8]) -> Result<()> {
    stream.context().bind_to_thread().map_err(call)?;
    if !source.is_empty() {
        // SAFETY: the caller's promise; the source lives until the copy has been waited for.
        unsafe { result::memcpy_htod_async(address, source, stream.cu_stream()) }.map_err(call)?;
    }
    stream.synchronize().map_err(call)
}

/// Copies from an address of the stream's device to host memory, and waits until that is done.
///
/// # Safety
/// As many bytes at the address are valid, and nothing that the stream does not order writes to them.
pub(super) unsafe fn read(stream: &CudaStream, address: CUdeviceptr, target: &mut [u8]) -> Result<()> {
    stream.context().bind_to_thread().map_err(call)?;
    if !target.is_empty() {
        // SAFETY: the caller's promise; the target lives until the copy has been waited for.
        unsafe { result::memcpy_dtoh_async(target, address, stream.cu_stream()) }.map_err(call)?;
    }
    stream.synchronize().map_err(call)
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        let context = self.stream.context();
        // Nobody is left to whom an error could be told: cudarc keeps it for the context's next call.
        context.record_err(context.bind_to_thread());
        // SAFETY: the memory was allocated in this way and is freed once, behind all work on the stream that touches it.
        unsafe {
            if context.has_async_alloc() {
                context.record_err(result::free_async(self.address, self.stream.cu_stream()));
            } else {
                context.record_err(self.stream.synchronize());
                context.record_err(result::free_sync(self.address));
            }
        }
    }
}
