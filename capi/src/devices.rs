//! Opening devices, and their memory.

#![allow(non_camel_case_types, reason = "the names are those of the header")]

use core::ffi::{CStr, c_char, c_int, c_void};

use dyt::Device;

use crate::copy;
use crate::memory::{Allocations, Memory};
use crate::status::{Failure, Outcome, guard};
use crate::stream::Current;

/// A device. Every function but dyt_device_close may be called on one from several threads at a time.
#[derive(Debug)]
pub struct dyt_device {
    device: Device,
    name: String,
    allocations: Allocations,
}

impl dyt_device {
    pub(crate) const fn device(&self) -> &Device {
        &self.device
    }

    /// The memory that a call with these arguments reaches.
    pub(crate) fn memory(&self, arguments: impl Iterator<Item = *const c_void>) -> Memory {
        Memory::of(&self.device, &self.allocations, arguments)
    }
}

/// The device that a pointer of the caller means.
///
/// # Safety
/// It is NULL, or came from `dyt_device_open` and is not closed before the reference is gone.
pub(crate) unsafe fn device<'a>(device: *const dyt_device) -> Outcome<&'a dyt_device> {
    // SAFETY: promised by the caller.
    unsafe { device.as_ref() }.ok_or_else(|| Failure::null("device"))
}

/// Opens the device of that name: "auto", "cpu", "cpu:LEVEL", "cuda", "cuda:N", "wgpu" or "wgpu:NAME". dyt_device_close
/// closes it. On failure *out is NULL.
///
/// "auto" is the best of this machine, or the one that the environment variable DYT_BACKEND names.
///
/// # Safety
/// name is a string that ends in NUL; out is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_device_open(name: *const c_char, out: *mut *mut dyt_device) -> c_int {
    guard(|| {
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        // SAFETY: it is not NULL, and the caller's to write.
        unsafe { out.write(core::ptr::null_mut()) };
        if name.is_null() {
            return Err(Failure::null("name"));
        }
        // SAFETY: a string that ends in NUL, by the contract.
        let name =
            unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Failure::invalid("name is not UTF-8"))?;
        let _current = Current::before(name);
        let device = Device::open(name)?;
        let opened = dyt_device { name: device.name(), allocations: Allocations::of(&device)?, device };
        // SAFETY: as above.
        unsafe { out.write(Box::into_raw(Box::new(opened))) };
        Ok(())
    })
}

/// Closes a device, and frees what dyt_alloc gave on it. Nothing happens for NULL.
///
/// # Safety
/// device came from dyt_device_open, and neither it nor its memory is used again; no call on it is running.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_device_close(device: *mut dyt_device) {
    guard(|| {
        if !device.is_null() {
            // SAFETY: it is the box that `dyt_device_open` made, and nobody else has it, by the contract.
            let device = unsafe { Box::from_raw(device) };
            let _current = Current::of(&device.device);
            drop(device);
        }
        Ok(())
    });
}

/// Writes the name of a device, such as "cpu:avx2", and a NUL behind it. A buffer of fewer than len bytes for both is
/// refused, and nothing is written.
///
/// # Safety
/// device is open; buf is writable for len bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_device_name(device: *const dyt_device, buf: *mut c_char, len: usize) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let name = unsafe { self::device(device) }?.name.as_bytes();
        if buf.is_null() {
            return Err(Failure::null("buf"));
        }
        if len <= name.len() {
            return Err(Failure::invalid(format!(
                "buf has {len} bytes, and the name needs {}",
                name.len() + 1
            )));
        }
        // SAFETY: the buffer has room for the name and a NUL, as was checked, and is apart from the name.
        unsafe {
            core::ptr::copy_nonoverlapping(name.as_ptr(), buf.cast::<u8>(), name.len());
            buf.add(name.len()).write(0);
        }
        Ok(())
    })
}

/// Limits the threads of each call on the CPU from now on, the calling thread included. 0 takes the limit away; with 1 the
/// library makes no thread. Without a limit, calls of 131,072 elements or more are divided among as many threads as the
/// environment variable RAYON_NUM_THREADS says, or as there are processors. On a GPU nothing happens.
///
/// # Safety
/// device is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_set_threads(device: *const dyt_device, threads: u32) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        unsafe { self::device(device) }?.device.set_threads(threads as usize);
        Ok(())
    })
}

/// Allocates zeroed memory of the device. On the CPU it is host memory, aligned to 64 bytes. On CUDA it is a device
/// pointer. On wgpu it is a handle: no arithmetic, and every argument begins at the beginning of one. dyt_free and
/// dyt_device_close give it back. On failure *out is NULL.
///
/// # Safety
/// device is open; out is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_alloc(device: *const dyt_device, bytes: usize, out: *mut *mut c_void) -> c_int {
    guard(|| {
        if out.is_null() {
            return Err(Failure::null("out"));
        }
        // SAFETY: it is not NULL, and the caller's to write.
        unsafe { out.write(core::ptr::null_mut()) };
        // SAFETY: by the contract.
        let device = unsafe { self::device(device) }?;
        let _current = Current::of(&device.device);
        let address = device.allocations.alloc(&device.device, bytes)?;
        // SAFETY: as above.
        unsafe { out.write(address) };
        Ok(())
    })
}

/// Gives back what dyt_alloc gave on this device. Nothing happens for NULL; any other pointer is refused.
///
/// # Safety
/// device is open, and no call is using the memory, unless it is a handle: those calls keep it until they are done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_free(device: *const dyt_device, memory: *mut c_void) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let device = unsafe { self::device(device) }?;
        let _current = Current::of(&device.device);
        device.allocations.free(memory)
    })
}

/// What the two directions of a copy share.
///
/// # Safety
/// device is open; dst and src have that many bytes, each in its memory.
unsafe fn copy_bytes(
    device: *const dyt_device,
    dst: *mut c_void,
    src: *const c_void,
    bytes: usize,
    copy: unsafe fn(&Device, &Memory, *mut c_void, *const c_void, usize) -> Outcome,
) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let device = unsafe { self::device(device) }?;
        if bytes > isize::MAX as usize {
            return Err(Failure::invalid(format!("bytes is {bytes}, more than memory has")));
        }
        if bytes == 0 {
            return Ok(());
        }
        if dst.is_null() {
            return Err(Failure::null("dst"));
        }
        if src.is_null() {
            return Err(Failure::null("src"));
        }
        let _current = Current::of(&device.device);
        // SAFETY: by the contract.
        unsafe { copy(&device.device, &device.memory([dst.cast_const(), src].into_iter()), dst, src, bytes) }
    })
}

/// Copies bytes from host memory to memory of the device, any number of them, behind the work that was asked for before
/// on the device's own stream. src may be reused when it returns.
///
/// # Safety
/// device is open; dst and src have that many bytes, each in its memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_upload(
    device: *const dyt_device,
    dst: *mut c_void,
    src: *const c_void,
    bytes: usize,
) -> c_int {
    // SAFETY: by the contract.
    unsafe { copy_bytes(device, dst, src, bytes, copy::upload) }
}

/// Copies bytes from memory of the device to host memory, and waits for the work on the device's own stream that was
/// asked for before. The bytes are there when it returns.
///
/// # Safety
/// device is open; dst and src have that many bytes, each in its memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_download(
    device: *const dyt_device,
    dst: *mut c_void,
    src: *const c_void,
    bytes: usize,
) -> c_int {
    // SAFETY: by the contract.
    unsafe { copy_bytes(device, dst, src, bytes, copy::download) }
}

/// Waits until everything that the device was asked for has been done. On the CPU it has when a call returns.
///
/// # Safety
/// device is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyt_synchronize(device: *const dyt_device) -> c_int {
    guard(|| {
        // SAFETY: by the contract.
        let device = unsafe { self::device(device) }?;
        let _current = Current::of(&device.device);
        Ok(device.device.synchronize()?)
    })
}
