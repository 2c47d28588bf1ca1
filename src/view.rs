//! Borrowed buffers whose element type is a value: what the argument structs hold.

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::{Buffer, DType, Element};

/// A borrowed buffer that is read.
///
/// Made with `from`/`into` of a slice, an array, a [`Vec`], a [`Buffer`], or a single value (for `alpha`).
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    ptr: NonNull<u8>,
    len: usize,
    dtype: DType,
    lifetime: PhantomData<&'a [u8]>,
}

/// A borrowed buffer that is written.
///
/// Made with `from`/`into` of a mutable slice, array, [`Vec`] or [`Buffer`], or of a single value (for `dalpha`).
#[derive(Debug)]
pub struct ViewMut<'a> {
    ptr: NonNull<u8>,
    len: usize,
    dtype: DType,
    lifetime: PhantomData<&'a mut [u8]>,
}

// SAFETY: a view is a `&[T]` of a `T: Sync` with its type as a value.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}
// SAFETY: a mutable view is a `&mut [T]` of a `T: Send` with its type as a value.
unsafe impl Send for ViewMut<'_> {}
// SAFETY: as above; a shared reference to it reaches no element.
unsafe impl Sync for ViewMut<'_> {}

impl View<'_> {
    /// A view of `len` elements at `ptr`, for callers that own memory by pointer. Each call checks that `ptr` is
    /// aligned for `dtype`.
    ///
    /// # Safety
    /// For as long as the view or a copy of it is used, `ptr` is valid for reads of `len` elements, and nothing writes there but an in-place call that was handed the same pointer as its output.
    #[must_use]
    pub const unsafe fn from_raw_parts(ptr: NonNull<u8>, len: usize, dtype: DType) -> Self {
        Self { ptr, len, dtype, lifetime: PhantomData }
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
    /// The first element.
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }
}

impl ViewMut<'_> {
    /// A view of `len` elements at `ptr`, for callers that own memory by pointer. Each call checks that `ptr` is
    /// aligned for `dtype`.
    ///
    /// # Safety
    /// For as long as the view is used, `ptr` is valid for reads and writes of `len` elements, and no other thread touches them. (That no other argument of a call overlaps it is checked.)
    #[must_use]
    pub const unsafe fn from_raw_parts(ptr: NonNull<u8>, len: usize, dtype: DType) -> Self {
        Self { ptr, len, dtype, lifetime: PhantomData }
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
    /// The first element.
    #[must_use]
    pub const fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }
    /// The same elements for a shorter while, so that the view can be used again.
    #[must_use]
    pub const fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { ptr: self.ptr, len: self.len, dtype: self.dtype, lifetime: PhantomData }
    }
    pub(crate) const fn address(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl<'a, T: Element> From<&'a [T]> for View<'a> {
    fn from(slice: &'a [T]) -> Self {
        let ptr = NonNull::from(slice).cast();
        Self { ptr, len: slice.len(), dtype: T::DTYPE, lifetime: PhantomData }
    }
}

impl<'a, T: Element> From<&'a mut [T]> for ViewMut<'a> {
    fn from(slice: &'a mut [T]) -> Self {
        let len = slice.len();
        Self { ptr: NonNull::from(slice).cast(), len, dtype: T::DTYPE, lifetime: PhantomData }
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
        let ptr = NonNull::from(buffer.bytes()).cast();
        Self { ptr, len: buffer.len(), dtype: buffer.dtype(), lifetime: PhantomData }
    }
}

impl<'a> From<&'a mut Buffer> for ViewMut<'a> {
    fn from(buffer: &'a mut Buffer) -> Self {
        let (len, dtype) = (buffer.len(), buffer.dtype());
        Self { ptr: NonNull::from(buffer.bytes_mut()).cast(), len, dtype, lifetime: PhantomData }
    }
}
