//! Views of memory that cudarc owns.

use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};

use crate::{Element, View, ViewMut};

/// A view of a `CudaSlice` or `CudaView` for work on a stream, ordered behind what cudarc knows to write there.
///
/// The guard tells cudarc, when it is dropped, that the stream has read: keep it until the call has been made.
///
/// # Safety
/// The view is used by calls on this stream alone, before the guard is dropped.
pub unsafe fn view<'a, T: Element>(
    slice: &'a impl DevicePtr<T>,
    stream: &'a CudaStream,
) -> (View<'a>, SyncOnDrop<'a>) {
    let (len, ordinal) = (slice.len(), slice.stream().context().ordinal());
    let (address, guard) = slice.device_ptr(stream);
    // SAFETY: cudarc owns `len` elements there for as long as the slice is borrowed, and frees them in the order of
    // streams; the rest is the caller's promise.
    (unsafe { View::from_cuda(ordinal, address, len, T::DTYPE) }, guard)
}

/// A view of a `CudaSlice` or `CudaViewMut` for work on a stream, ordered behind what cudarc knows to touch it.
///
/// The guard tells cudarc, when it is dropped, that the stream has written: keep it until the call has been made.
///
/// # Safety
/// The view is used by calls on this stream alone, before the guard is dropped.
pub unsafe fn view_mut<'a, T: Element>(
    slice: &'a mut impl DevicePtrMut<T>,
    stream: &'a CudaStream,
) -> (ViewMut<'a>, SyncOnDrop<'a>) {
    let (len, ordinal) = (slice.len(), slice.stream().context().ordinal());
    let (address, guard) = slice.device_ptr_mut(stream);
    // SAFETY: as in `view`.
    (unsafe { ViewMut::from_cuda(ordinal, address, len, T::DTYPE) }, guard)
}
