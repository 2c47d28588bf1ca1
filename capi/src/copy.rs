//! Copies between the memory of the host and that of a device, of any number of bytes.

use core::ffi::c_void;

use dyt::Device;

use crate::memory::{Memory, Place};
use crate::status::Outcome;

/// Copies from host memory to memory of the device.
///
/// # Safety
/// Both are valid for `bytes`, `to` in the device's memory and `from` in the host's.
pub(crate) unsafe fn upload(
    device: &Device,
    memory: &Memory,
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
) -> Outcome {
    match memory.place("dst", to, bytes)? {
        // SAFETY: promised by the caller; they may overlap.
        Place::Host(to) => unsafe { core::ptr::copy(from.cast::<u8>(), to.as_ptr(), bytes) },
        #[cfg(feature = "cuda")]
        // SAFETY: promised by the caller.
        Place::Cuda(_, to) => unsafe {
            cuda::upload(device, to, core::slice::from_raw_parts(from.cast(), bytes))?;
        },
        #[cfg(feature = "wgpu")]
        // SAFETY: promised by the caller.
        Place::Wgpu(to) => unsafe {
            wgpu::upload(device, to, core::slice::from_raw_parts(from.cast(), bytes))?;
        },
        #[cfg(not(feature = "wgpu"))]
        Place::Never(never, _) => match never {},
    }
    let _ = device;
    Ok(())
}

/// Copies from memory of the device to host memory.
///
/// # Safety
/// Both are valid for `bytes`, `from` in the device's memory and `to` in the host's, and nobody else touches the latter.
pub(crate) unsafe fn download(
    device: &Device,
    memory: &Memory,
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
) -> Outcome {
    match memory.place("src", from, bytes)? {
        // SAFETY: promised by the caller; they may overlap.
        Place::Host(from) => unsafe { core::ptr::copy(from.as_ptr(), to.cast::<u8>(), bytes) },
        #[cfg(feature = "cuda")]
        // SAFETY: promised by the caller; what is there is bytes to the driver, whatever they are.
        Place::Cuda(_, from) => unsafe {
            cuda::download(device, core::slice::from_raw_parts_mut(to.cast(), bytes), from)?;
        },
        #[cfg(feature = "wgpu")]
        // SAFETY: promised by the caller.
        Place::Wgpu(from) => unsafe {
            wgpu::download(device, core::slice::from_raw_parts_mut(to.cast(), bytes), from)?;
        },
        #[cfg(not(feature = "wgpu"))]
        Place::Never(never, _) => match never {},
    }
    let _ = device;
    Ok(())
}

/// By the driver, which copies bytes, behind what is on the device's own stream.
#[cfg(feature = "cuda")]
mod cuda {
    use std::sync::Arc;

    use dyt::Device;
    use dyt::cuda::cudarc::driver::{CudaStream, DriverError, result};

    use crate::status::{Failure, Outcome};

    fn failed(error: DriverError) -> Failure {
        Failure::device(format!("the CUDA driver failed to copy: {error}"))
    }

    /// The device's own stream, with its context current.
    fn stream(device: &Device) -> Outcome<Arc<CudaStream>> {
        let kernels = device.cuda_kernels().ok_or_else(|| Failure::invalid("device is none of CUDA"))?;
        kernels.context().bind_to_thread().map_err(failed)?;
        Ok(kernels.context().default_stream())
    }

    /// # Safety
    /// As many bytes at `to` are valid on the device.
    pub(super) unsafe fn upload(device: &Device, to: u64, from: &[u8]) -> Outcome {
        let stream = stream(device)?;
        // SAFETY: the caller's promise; the source lives until the copy has been waited for.
        unsafe { result::memcpy_htod_async(to, from, stream.cu_stream()) }.map_err(failed)?;
        stream.synchronize().map_err(failed)
    }

    /// # Safety
    /// As many bytes at `from` are valid on the device.
    pub(super) unsafe fn download(device: &Device, to: &mut [u8], from: u64) -> Outcome {
        let stream = stream(device)?;
        // SAFETY: the caller's promise; the target lives until the copy has been waited for.
        unsafe { result::memcpy_dtoh_async(to, from, stream.cu_stream()) }.map_err(failed)?;
        stream.synchronize().map_err(failed)
    }
}

/// By words of 4 bytes, of which wgpu copies nothing smaller, and the rest through a word that the host has.
#[cfg(feature = "wgpu")]
mod wgpu {
    use core::ptr::NonNull;

    use dyt::wgpu::wgpu::Buffer;
    use dyt::{DType, Device, View, ViewMut};

    use crate::status::Outcome;

    const WORD: usize = DType::F32.size();

    pub(super) fn upload(device: &Device, to: &Buffer, from: &[u8]) -> Outcome {
        let (words, rest) = from.split_at(from.len() / WORD * WORD);
        write(device, to, 0, words)?;
        if !rest.is_empty() {
            let mut word = [0; WORD];
            read(device, &mut word, to, words.len())?;
            word[..rest.len()].copy_from_slice(rest);
            write(device, to, words.len(), &word)?;
        }
        Ok(())
    }

    pub(super) fn download(device: &Device, to: &mut [u8], from: &Buffer) -> Outcome {
        let (words, rest) = to.split_at_mut(to.len() / WORD * WORD);
        read(device, words, from, 0)?;
        if !rest.is_empty() {
            let mut word = [0; WORD];
            read(device, &mut word, from, words.len())?;
            rest.copy_from_slice(&word[..rest.len()]);
        }
        Ok(())
    }

    /// Whole words to `offset` bytes behind the beginning.
    fn write(device: &Device, to: &Buffer, offset: usize, words: &[u8]) -> Outcome {
        let len = words.len() / WORD;
        // SAFETY: the slice is as many bytes of host memory; wgpu's copies need no alignment there.
        let from = unsafe { View::from_raw_parts(NonNull::from(words).cast(), len, DType::F32) };
        Ok(device.write(from, ViewMut::from_wgpu(to, offset as u64, len, DType::F32)?)?)
    }

    /// Whole words from `offset` bytes behind the beginning.
    fn read(device: &Device, words: &mut [u8], from: &Buffer, offset: usize) -> Outcome {
        let len = words.len() / WORD;
        // SAFETY: as in `write`, and the slice is borrowed mutably.
        let to = unsafe { ViewMut::from_raw_parts(NonNull::from(words).cast(), len, DType::F32) };
        Ok(device.read(View::from_wgpu(from, offset as u64, len, DType::F32)?, to)?)
    }
}
