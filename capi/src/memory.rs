//! Memory of a device: what `dyt_alloc` gave, and how an address or a handle of the caller becomes a view.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use dyt::{Backend, Buffer, DType, Device, View, ViewMut};

use crate::status::{Failure, Outcome};

/// What `dyt_alloc` gave and `dyt_free` has not taken back, by the address or handle that the caller knows it by.
#[derive(Debug)]
pub(crate) struct Allocations {
    known: RwLock<HashMap<usize, Arc<Allocation>>>,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "wgpu"), expect(dead_code, reason = "only handles are looked up"))]
struct Allocation {
    buffer: Buffer,
    /// As many as were asked for.
    bytes: usize,
}

impl Allocations {
    pub(crate) fn of(device: &Device) -> Outcome<Self> {
        let mut known = HashMap::new();
        if device.backend() == Backend::Wgpu {
            // A view needs a buffer, also that of an argument without elements, for which NULL will do.
            known.insert(0, Arc::new(Allocation { buffer: device.zeros(DType::F32, 1)?, bytes: 0 }));
        }
        Ok(Self { known: RwLock::new(known) })
    }

    /// Allocates at least `bytes` of zeros.
    pub(crate) fn alloc(&self, device: &Device, bytes: usize) -> Outcome<*mut c_void> {
        // f32 is the widest element; an allocation of nothing has an address of its own all the same.
        let len = bytes.div_ceil(DType::F32.size()).max(1);
        let mut buffer = device.zeros(DType::F32, len)?;
        let address = match device.backend() {
            Backend::Wgpu => core::ptr::without_provenance_mut(new_handle(bytes)?),
            _ => ViewMut::from(&mut buffer).as_mut_ptr().cast::<c_void>(),
        };
        let allocation = Arc::new(Allocation { buffer, bytes });
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(address.addr(), allocation);
        Ok(address)
    }

    /// Gives an allocation back; a call that another thread has begun keeps it until it returns.
    pub(crate) fn free(&self, address: *mut c_void) -> Outcome {
        if address.is_null() {
            return Ok(());
        }
        let allocation = self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&address.addr());
        match allocation {
            Some(_) => Ok(()),
            None => Err(Failure::invalid(
                "the pointer is none that dyt_alloc of this device gave, or it was freed",
            )),
        }
    }

    /// The allocations among these handles.
    fn hold(&self, handles: impl Iterator<Item = *const c_void>) -> Vec<(usize, Arc<Allocation>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let found = |handle: *const c_void| Some((handle.addr(), Arc::clone(known.get(&handle.addr())?)));
        handles.filter_map(found).collect()
    }
}

/// The first handle: on machines of 64 bits no address that a program can have.
const FIRST_HANDLE: usize = usize::MAX / 4 + 1;
/// Between two handles, beside the bytes that the first one stands for.
const APART: usize = 256;

/// A handle that no device of this process has had before. As those of other allocations are as far apart as if they
/// were addresses, arithmetic on it gives none that is known.
fn new_handle(bytes: usize) -> Outcome<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(FIRST_HANDLE);
    let beyond =
        |handle: usize| handle.checked_add(bytes)?.checked_next_multiple_of(APART)?.checked_add(APART);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, beyond)
        .map_err(|_| dyt::Error::OutOfMemory { bytes }.into())
}

/// Where bytes of a device are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Host(NonNull<u8>),
    /// An address on the device of that ordinal.
    #[cfg(feature = "cuda")]
    Cuda(usize, u64),
    #[cfg(feature = "wgpu")]
    Wgpu(&'a dyt::wgpu::wgpu::Buffer),
    /// Keeps the lifetime where no backend needs it.
    #[cfg(not(feature = "wgpu"))]
    #[expect(dead_code, reason = "never made: it has no value")]
    Never(core::convert::Infallible, core::marker::PhantomData<&'a ()>),
}

/// The memory that a call reaches, by the addresses and handles that its caller knows.
#[derive(Debug)]
pub(crate) struct Memory {
    backend: Backend,
    /// Of a CUDA device.
    #[cfg(feature = "cuda")]
    ordinal: usize,
    /// The allocations behind the handles of the call, so that another thread's dyt_free does not take them from it.
    #[cfg_attr(not(feature = "wgpu"), expect(dead_code, reason = "only handles are looked up"))]
    held: Vec<(usize, Arc<Allocation>)>,
}

impl Memory {
    /// For a call with these arguments: each handle that it will ask for is among them.
    pub(crate) fn of(
        device: &Device,
        allocations: &Allocations,
        arguments: impl Iterator<Item = *const c_void>,
    ) -> Self {
        let backend = device.backend();
        Self {
            backend,
            #[cfg(feature = "cuda")]
            ordinal: device.ordinal().unwrap_or_default(),
            held: if backend == Backend::Wgpu { allocations.hold(arguments) } else { Vec::new() },
        }
    }

    /// Where `bytes` of an argument are. `name` is the argument's. NULL will do where there are none.
    pub(crate) fn place(&self, name: &'static str, at: *const c_void, bytes: usize) -> Outcome<Place<'_>> {
        // Nothing is read from what stands for NULL; it is aligned for every element.
        let address = match NonNull::new(at.cast_mut().cast::<u8>()) {
            Some(address) => address,
            None if bytes == 0 => NonNull::<u64>::dangling().cast(),
            None => return Err(Failure::null(name)),
        };
        match self.backend {
            Backend::Cpu => Ok(Place::Host(address)),
            #[cfg(feature = "cuda")]
            Backend::Cuda => Ok(Place::Cuda(self.ordinal, address.addr().get() as u64)),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => self.buffer(name, at, bytes).map(Place::Wgpu),
            other => {
                Err(Failure::unsupported(format!("this C library reaches no memory of {other} devices")))
            }
        }
    }

    /// The buffer that a handle means.
    #[cfg(feature = "wgpu")]
    fn buffer(
        &self,
        name: &'static str,
        handle: *const c_void,
        bytes: usize,
    ) -> Outcome<&dyt::wgpu::wgpu::Buffer> {
        let held = self.held.iter().find(|(known, _)| *known == handle.addr());
        let known = held.and_then(|(_, allocation)| Some((allocation.buffer.as_wgpu()?, allocation.bytes)));
        match known {
            Some((buffer, size)) if bytes <= size => Ok(buffer),
            Some((_, size)) => Err(Failure::invalid(format!(
                "{name} needs {bytes} bytes, and dyt_alloc was asked for {size}"
            ))),
            None => Err(Failure::invalid(format!(
                "{name} is no handle that dyt_alloc of this device gave, or it was freed"
            ))),
        }
    }

    /// `len` elements that are read.
    ///
    /// # Safety
    /// For `'a`, `at` is NULL, a handle, or means `len` elements of the device's memory to which nothing writes but an
    /// in-place call.
    pub(crate) unsafe fn view<'a>(
        &'a self,
        name: &'static str,
        at: *const c_void,
        len: usize,
        dtype: DType,
    ) -> Outcome<View<'a>> {
        match self.place(name, at, bytes_of(name, len, dtype)?)? {
            // SAFETY: promised by the caller; alignment is checked by the call that the view is for.
            Place::Host(at) => Ok(unsafe { View::from_raw_parts(at, len, dtype) }),
            #[cfg(feature = "cuda")]
            // SAFETY: as above, of the device that is asked.
            Place::Cuda(ordinal, at) => Ok(unsafe { View::from_cuda(ordinal, at, len, dtype) }),
            #[cfg(feature = "wgpu")]
            Place::Wgpu(buffer) => Ok(View::from_wgpu(buffer, 0, len, dtype)?),
            #[cfg(not(feature = "wgpu"))]
            Place::Never(never, _) => match never {},
        }
    }

    /// `len` elements that are written, as [`Self::view`].
    ///
    /// # Safety
    /// For `'a`, `at` is NULL, a handle, or means `len` elements of the device's memory that no other thread touches.
    pub(crate) unsafe fn view_mut<'a>(
        &'a self,
        name: &'static str,
        at: *mut c_void,
        len: usize,
        dtype: DType,
    ) -> Outcome<ViewMut<'a>> {
        match self.place(name, at, bytes_of(name, len, dtype)?)? {
            // SAFETY: promised by the caller; alignment and overlap are checked by the call that the view is for.
            Place::Host(at) => Ok(unsafe { ViewMut::from_raw_parts(at, len, dtype) }),
            #[cfg(feature = "cuda")]
            // SAFETY: as above, of the device that is asked.
            Place::Cuda(ordinal, at) => Ok(unsafe { ViewMut::from_cuda(ordinal, at, len, dtype) }),
            #[cfg(feature = "wgpu")]
            Place::Wgpu(buffer) => Ok(ViewMut::from_wgpu(buffer, 0, len, dtype)?),
            #[cfg(not(feature = "wgpu"))]
            Place::Never(never, _) => match never {},
        }
    }
}

fn bytes_of(name: &'static str, len: usize, dtype: DType) -> Outcome<usize> {
    len.checked_mul(dtype.size()).ok_or_else(|| Failure::invalid(format!("{name} is more than memory has")))
}
