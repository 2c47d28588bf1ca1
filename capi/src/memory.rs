//! Memory of a device: what `dyt_alloc` gave, and how an address of the caller becomes a view.

use core::ffi::c_void;
use core::ptr::NonNull;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use dyt::{Backend, Buffer, DType, Device, View, ViewMut};

use crate::status::{Failure, Outcome};

/// What `dyt_alloc` gave and `dyt_free` has not taken back, by the address or handle that the caller knows it by.
#[derive(Debug, Default)]
pub(crate) struct Allocations {
    buffers: RwLock<HashMap<usize, Buffer>>,
}

impl Allocations {
    /// Allocates at least `bytes` of zeros.
    pub(crate) fn alloc(&self, device: &Device, bytes: usize) -> Outcome<*mut c_void> {
        // f32 is the widest element; an allocation of nothing has an address of its own all the same.
        let len = bytes.div_ceil(DType::F32.size()).max(1);
        let mut buffer = device.zeros(DType::F32, len)?;
        let address = match buffer.backend() {
            Backend::Cpu | Backend::Cuda => ViewMut::from(&mut buffer).as_mut_ptr(),
            other => return Err(unmapped(other)),
        };
        self.buffers.write().unwrap_or_else(PoisonError::into_inner).insert(address.addr(), buffer);
        Ok(address.cast())
    }

    /// Gives an allocation back.
    pub(crate) fn free(&self, address: *mut c_void) -> Outcome {
        if address.is_null() {
            return Ok(());
        }
        let buffer = self.buffers.write().unwrap_or_else(PoisonError::into_inner).remove(&address.addr());
        match buffer {
            Some(_) => Ok(()),
            None => Err(Failure::invalid(
                "the pointer is none that dyt_alloc of this device gave, or it was freed",
            )),
        }
    }
}

/// Copies from host memory to memory of the device.
///
/// # Safety
/// Both are valid for `bytes`, `to` in the device's memory and `from` in the host's.
pub(crate) unsafe fn upload(device: &Device, to: *mut c_void, from: *const c_void, bytes: usize) -> Outcome {
    match device.backend() {
        // SAFETY: promised by the caller; they may overlap.
        Backend::Cpu => unsafe { core::ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) },
        #[cfg(feature = "cuda")]
        Backend::Cuda => {
            let (reach, len) = (Reach::of(device), words(bytes)?);
            let host = place("src", from.cast_mut(), len, WORD)?;
            // SAFETY: promised by the caller.
            let (host, to) =
                unsafe { (View::from_raw_parts(host, len, WORD), reach.view_mut("dst", to, len, WORD)?) };
            device.write(host, to)?;
        }
        other => return Err(unmapped(other)),
    }
    Ok(())
}

/// Copies from memory of the device to host memory.
///
/// # Safety
/// Both are valid for `bytes`, `from` in the device's memory and `to` in the host's.
pub(crate) unsafe fn download(
    device: &Device,
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
) -> Outcome {
    match device.backend() {
        // SAFETY: promised by the caller; they may overlap.
        Backend::Cpu => unsafe { core::ptr::copy(from.cast::<u8>(), to.cast::<u8>(), bytes) },
        #[cfg(feature = "cuda")]
        Backend::Cuda => {
            let (reach, len) = (Reach::of(device), words(bytes)?);
            let host = place("dst", to, len, WORD)?;
            // SAFETY: promised by the caller.
            let (from, host) =
                unsafe { (reach.view("src", from, len, WORD)?, ViewMut::from_raw_parts(host, len, WORD)) };
            device.read(from, host)?;
        }
        other => return Err(unmapped(other)),
    }
    Ok(())
}

/// The type of what is copied from and to a GPU: any of the smallest elements.
#[cfg(feature = "cuda")]
const WORD: DType = DType::F16;

/// Elements of [`WORD`].
#[cfg(feature = "cuda")]
fn words(bytes: usize) -> Outcome<usize> {
    if bytes.is_multiple_of(WORD.size()) {
        return Ok(bytes / WORD.size());
    }
    Err(Failure::invalid(format!("bytes is {bytes}, and every element has an even number of them")))
}

/// The memory that a call reaches, by the addresses and handles that its caller knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    backend: Backend,
    /// Of a CUDA device.
    #[cfg(feature = "cuda")]
    ordinal: usize,
}

impl Reach {
    pub(crate) fn of(device: &Device) -> Self {
        Self {
            backend: device.backend(),
            #[cfg(feature = "cuda")]
            ordinal: device.ordinal().unwrap_or_default(),
        }
    }

    /// `len` elements that are read. `name` is the argument's. NULL will do where there are none.
    ///
    /// # Safety
    /// For `'a`, `address` is NULL, or means `len` elements of the device's memory to which nothing writes but an
    /// in-place call.
    pub(crate) unsafe fn view<'a>(
        self,
        name: &'static str,
        address: *const c_void,
        len: usize,
        dtype: DType,
    ) -> Outcome<View<'a>> {
        let address = place(name, address.cast_mut(), len, dtype)?;
        match self.backend {
            // SAFETY: promised by the caller; alignment is checked by the call that the view is for.
            Backend::Cpu => Ok(unsafe { View::from_raw_parts(address, len, dtype) }),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let address = address.addr().get() as u64;
                // SAFETY: as above, of the device that is asked.
                Ok(unsafe { View::from_cuda(self.ordinal, address, len, dtype) })
            }
            other => Err(unmapped(other)),
        }
    }

    /// `len` elements that are written, as [`Self::view`].
    ///
    /// # Safety
    /// For `'a`, `address` is NULL, or means `len` elements of the device's memory that no other thread touches.
    pub(crate) unsafe fn view_mut<'a>(
        self,
        name: &'static str,
        address: *mut c_void,
        len: usize,
        dtype: DType,
    ) -> Outcome<ViewMut<'a>> {
        let address = place(name, address, len, dtype)?;
        match self.backend {
            // SAFETY: promised by the caller; alignment and overlap are checked by the call that the view is for.
            Backend::Cpu => Ok(unsafe { ViewMut::from_raw_parts(address, len, dtype) }),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let address = address.addr().get() as u64;
                // SAFETY: as above, of the device that is asked.
                Ok(unsafe { ViewMut::from_cuda(self.ordinal, address, len, dtype) })
            }
            other => Err(unmapped(other)),
        }
    }
}

/// The address, or for NULL where there are no elements an aligned one that nothing is read from.
fn place(name: &'static str, address: *mut c_void, len: usize, dtype: DType) -> Outcome<NonNull<u8>> {
    match NonNull::new(address.cast::<u8>()) {
        Some(address) => Ok(address),
        None if len == 0 => Ok(match dtype {
            DType::F32 => NonNull::<f32>::dangling().cast(),
            DType::F16 | DType::Bf16 => NonNull::<u16>::dangling().cast(),
        }),
        None => Err(Failure::null(name)),
    }
}

/// The memory of that backend has no addresses in this ABI.
fn unmapped(backend: Backend) -> Failure {
    Failure::unsupported(format!("this C library reaches no memory of {backend} devices"))
}
