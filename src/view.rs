//! Borrowed buffers whose element type is a value: what the argument structs hold.

use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;

use crate::{Backend, Buffer, DType, Element};
#[cfg(has_wgpu)]
use crate::{Error, Result};

/// A borrowed buffer that is read.
///
/// Made with `from`/`into` of a slice, an array, a [`Vec`], a [`Buffer`], or a single value (for `alpha`); with
/// [`View::from_raw_parts`] and, where the backend is built in, `View::from_cuda` and `View::from_wgpu` of memory that
/// a framework owns.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    place: Place<'a>,
    ptr: *const u8,
    len: usize,
    dtype: DType,
    lifetime: PhantomData<&'a [u8]>,
}

/// A borrowed buffer that is written.
///
/// Made with `from`/`into` of a mutable slice, array, [`Vec`] or [`Buffer`], or of a single value (for `dalpha`); with
/// [`ViewMut::from_raw_parts`] and, where the backend is built in, `ViewMut::from_cuda` and `ViewMut::from_wgpu`.
#[derive(Debug)]
pub struct ViewMut<'a> {
    place: Place<'a>,
    ptr: *mut u8,
    len: usize,
    dtype: DType,
    lifetime: PhantomData<&'a mut [u8]>,
}

/// The memory that a view lies in, and so what its address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Host memory: the address is a pointer.
    Host,
    /// The memory of a CUDA device, by its ordinal: the address is a device pointer.
    #[cfg(has_cuda)]
    Cuda(usize),
    /// A wgpu buffer: the address is the offset in bytes.
    #[cfg(has_wgpu)]
    Wgpu(&'a ::wgpu::Buffer),
    /// Keeps the lifetime where no backend needs it.
    #[cfg(not(has_wgpu))]
    #[expect(dead_code, reason = "never made: it has no value")]
    Never(core::convert::Infallible, PhantomData<&'a ()>),
}

impl Place<'_> {
    pub(crate) const fn backend(self) -> Backend {
        match self {
            Self::Host => Backend::Cpu,
            #[cfg(has_cuda)]
            Self::Cuda(_) => Backend::Cuda,
            #[cfg(has_wgpu)]
            Self::Wgpu(_) => Backend::Wgpu,
            #[cfg(not(has_wgpu))]
            Self::Never(never, _) => match never {},
        }
    }
}

// SAFETY: a view is a `&[T]` of a `T: Sync` with its type as a value, or names memory that only a device touches.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}
// SAFETY: a mutable view is a `&mut [T]` of a `T: Send` with its type as a value, or names memory that only a device
// touches.
unsafe impl Send for ViewMut<'_> {}
// SAFETY: as above; a shared reference to it reaches no element.
unsafe impl Sync for ViewMut<'_> {}

impl<'a> View<'a> {
    /// A view of `len` elements at `ptr` in host memory, for callers that own memory by pointer. Each call checks that
    /// `ptr` is aligned for `dtype`.
    ///
    /// # Safety
    /// For as long as the view or a copy of it is used, `ptr` is valid for reads of `len` elements, and nothing writes
    /// there but an in-place call that was handed the same pointer as its output.
    #[must_use]
    pub const unsafe fn from_raw_parts(ptr: NonNull<u8>, len: usize, dtype: DType) -> Self {
        Self { place: Place::Host, ptr: ptr.as_ptr(), len, dtype, lifetime: PhantomData }
    }
    /// A view of `len` elements at the device address `ptr` of the CUDA device `ordinal`. Each call checks that `ptr`
    /// is aligned for `dtype`.
    ///
    /// # Safety
    /// Until the work that a call enqueues has ended, `ptr` is valid on that device for reads of `len` elements, and no
    /// work that is not ordered by the call's stream writes there.
    #[cfg(has_cuda)]
    #[must_use]
    pub const unsafe fn from_cuda(ordinal: usize, ptr: u64, len: usize, dtype: DType) -> Self {
        let ptr = core::ptr::without_provenance(ptr as usize);
        Self { place: Place::Cuda(ordinal), ptr, len, dtype, lifetime: PhantomData }
    }
    /// A view of `len` elements at `offset` bytes in a wgpu buffer.
    ///
    /// # Errors
    /// [`Error::OutOfBuffer`], [`Error::NotStorage`].
    #[cfg(has_wgpu)]
    pub fn from_wgpu(buffer: &'a ::wgpu::Buffer, offset: u64, len: usize, dtype: DType) -> Result<Self> {
        let ptr = core::ptr::without_provenance(offset_in(buffer, offset, len, dtype)?);
        Ok(Self { place: Place::Wgpu(buffer), ptr, len, dtype, lifetime: PhantomData })
    }
    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }
    /// Whose devices can reach the elements.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.place.backend()
    }
    /// The first element: a host pointer, a CUDA device pointer, or the offset in bytes in a wgpu buffer, as
    /// [`Self::backend`] says.
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.ptr
    }
    pub(crate) const fn place(&self) -> Place<'a> {
        self.place
    }
    /// The elements of a range, if they all lie in the view.
    pub(crate) fn part(self, range: Range<usize>) -> Option<Self> {
        let len = part_len(&range, self.len)?;
        // Wrapping, because the addresses of a device are none of the host's; within the view it never wraps.
        Some(Self { ptr: self.ptr.wrapping_add(range.start * self.dtype.size()), len, ..self })
    }
}

impl<'a> ViewMut<'a> {
    /// A view of `len` elements at `ptr` in host memory, for callers that own memory by pointer. Each call checks that
    /// `ptr` is aligned for `dtype`.
    ///
    /// # Safety
    /// For as long as the view is used, `ptr` is valid for reads and writes of `len` elements, and no other thread
    /// touches them. (That no other argument of a call overlaps it is checked.)
    #[must_use]
    pub const unsafe fn from_raw_parts(ptr: NonNull<u8>, len: usize, dtype: DType) -> Self {
        Self { place: Place::Host, ptr: ptr.as_ptr(), len, dtype, lifetime: PhantomData }
    }
    /// A view of `len` elements at the device address `ptr` of the CUDA device `ordinal`. Each call checks that `ptr`
    /// is aligned for `dtype`.
    ///
    /// # Safety
    /// Until the work that a call enqueues has ended, `ptr` is valid on that device for reads and writes of `len`
    /// elements, and no work that is not ordered by the call's stream touches them.
    #[cfg(has_cuda)]
    #[must_use]
    pub const unsafe fn from_cuda(ordinal: usize, ptr: u64, len: usize, dtype: DType) -> Self {
        let ptr = core::ptr::without_provenance_mut(ptr as usize);
        Self { place: Place::Cuda(ordinal), ptr, len, dtype, lifetime: PhantomData }
    }
    /// A view of `len` elements at `offset` bytes in a wgpu buffer.
    ///
    /// wgpu orders what is recorded, so that a shared borrow of the buffer is enough.
    ///
    /// # Errors
    /// [`Error::OutOfBuffer`], [`Error::NotStorage`].
    #[cfg(has_wgpu)]
    pub fn from_wgpu(buffer: &'a ::wgpu::Buffer, offset: u64, len: usize, dtype: DType) -> Result<Self> {
        let ptr = core::ptr::without_provenance_mut(offset_in(buffer, offset, len, dtype)?);
        Ok(Self { place: Place::Wgpu(buffer), ptr, len, dtype, lifetime: PhantomData })
    }
    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }
    /// Whose devices can reach the elements.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.place.backend()
    }
    /// The first element: a host pointer, a CUDA device pointer, or the offset in bytes in a wgpu buffer, as
    /// [`Self::backend`] says.
    #[must_use]
    pub const fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr
    }
    /// The same elements for a shorter while, so that the view can be used again.
    #[must_use]
    pub const fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { place: self.place, ptr: self.ptr, len: self.len, dtype: self.dtype, lifetime: PhantomData }
    }
    /// The same elements, to be read.
    #[must_use]
    pub const fn as_view(&self) -> View<'_> {
        View { place: self.place, ptr: self.ptr, len: self.len, dtype: self.dtype, lifetime: PhantomData }
    }
    pub(crate) const fn address(&self) -> *mut u8 {
        self.ptr
    }
    pub(crate) const fn place(&self) -> Place<'a> {
        self.place
    }
    /// The elements of a range, if they all lie in the view.
    pub(crate) fn part(self, range: Range<usize>) -> Option<Self> {
        let len = part_len(&range, self.len)?;
        Some(Self { ptr: self.ptr.wrapping_add(range.start * self.dtype.size()), len, ..self })
    }
}

/// The length of a range that lies within `len` elements.
fn part_len(range: &Range<usize>, len: usize) -> Option<usize> {
    if range.end <= len { range.end.checked_sub(range.start) } else { None }
}

/// The offset as an address, once the elements are known to lie in the buffer and kernels may be bound to it.
#[cfg(has_wgpu)]
fn offset_in(buffer: &::wgpu::Buffer, offset: u64, len: usize, dtype: DType) -> Result<usize> {
    let size = buffer.size();
    let outside = Error::OutOfBuffer { offset, len, dtype, size };
    let bytes = (len as u64).checked_mul(dtype.size() as u64);
    // Kernels read and write whole words of 4 bytes, of which an odd number of 16-bit elements takes a part.
    let end = bytes.and_then(|bytes| offset.checked_add(bytes)?.checked_next_multiple_of(4));
    if end.is_none_or(|end| end > size) {
        return Err(outside);
    }
    if !buffer.usage().contains(::wgpu::BufferUsages::STORAGE) {
        return Err(Error::NotStorage);
    }
    usize::try_from(offset).map_err(|_| outside)
}

impl<'a, T: Element> From<&'a [T]> for View<'a> {
    fn from(slice: &'a [T]) -> Self {
        let ptr = slice.as_ptr().cast();
        Self { place: Place::Host, ptr, len: slice.len(), dtype: T::DTYPE, lifetime: PhantomData }
    }
}

impl<'a, T: Element> From<&'a mut [T]> for ViewMut<'a> {
    fn from(slice: &'a mut [T]) -> Self {
        let (len, ptr) = (slice.len(), slice.as_mut_ptr().cast());
        Self { place: Place::Host, ptr, len, dtype: T::DTYPE, lifetime: PhantomData }
    }
}

impl<'a, T: Element> From<&'a T> for View<'a> {
    fn from(value: &'a T) -> Self {
        core::slice::from_ref(value).into()
    }
}

impl<'a, T: Element> From<&'a mut T> for ViewMut<'a> {
    fn from(value: &'a mut T) -> Self {
        core::slice::from_mut(value).into()
    }
}

impl<'a, T: Element> From<&'a Vec<T>> for View<'a> {
    fn from(vec: &'a Vec<T>) -> Self {
        vec.as_slice().into()
    }
}

impl<'a, T: Element> From<&'a mut Vec<T>> for ViewMut<'a> {
    fn from(vec: &'a mut Vec<T>) -> Self {
        vec.as_mut_slice().into()
    }
}

impl<'a, T: Element, const N: usize> From<&'a [T; N]> for View<'a> {
    fn from(array: &'a [T; N]) -> Self {
        array.as_slice().into()
    }
}

impl<'a, T: Element, const N: usize> From<&'a mut [T; N]> for ViewMut<'a> {
    fn from(array: &'a mut [T; N]) -> Self {
        array.as_mut_slice().into()
    }
}

impl<'a> From<&'a Buffer> for View<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        let (place, ptr) = buffer.place();
        Self { place, ptr, len: buffer.len(), dtype: buffer.dtype(), lifetime: PhantomData }
    }
}

impl<'a> From<&'a mut Buffer> for ViewMut<'a> {
    fn from(buffer: &'a mut Buffer) -> Self {
        let (len, dtype) = (buffer.len(), buffer.dtype());
        let (place, ptr) = buffer.place_mut();
        Self { place, ptr, len, dtype, lifetime: PhantomData }
    }
}
