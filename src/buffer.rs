//! Memory that belongs to a device.

use bytemuck::{Pod, Zeroable};

use crate::{DType, Element, Error, Result};

/// One cache line: the unit of allocation, so that rows of 16 values begin on a vector's boundary.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Elements in the memory of a [`Device`](crate::Device): on the CPU, host memory aligned to 64 bytes.
#[derive(Clone, Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
    dtype: DType,
}

impl Buffer {
    pub(crate) fn zeroed(dtype: DType, len: usize) -> Result<Self> {
        let bytes = len.checked_mul(dtype.size()).ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        let lines = bytemuck::allocation::try_zeroed_vec(bytes.div_ceil(size_of::<Line>()))
            .map_err(|()| Error::OutOfMemory { bytes })?;
        Ok(Self { lines, len, dtype })
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
    /// The elements, if they lie in host memory and are of type `T`.
    #[must_use]
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        (T::DTYPE == self.dtype).then(|| bytemuck::cast_slice(self.bytes()))
    }
    /// The elements, if they lie in host memory and are of type `T`.
    #[must_use]
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        (T::DTYPE == self.dtype).then(|| bytemuck::cast_slice_mut(self.bytes_mut()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::must_cast_slice(&self.lines)[..self.len * self.dtype.size()]
    }
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.len * self.dtype.size();
        &mut bytemuck::must_cast_slice_mut(&mut self.lines)[..bytes]
    }
}
