//! Memory that belongs to a device.

use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::view::{Place, View, ViewMut};
use crate::{Backend, DType, Element, Error, Result};

/// One cache line: the unit of allocation, so that rows of 16 values begin on a vector's boundary.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Elements in the memory of a [`Device`](crate::Device): on the CPU, host memory aligned to 64 bytes.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    len: usize,
    dtype: DType,
}

/// What holds the elements.
#[derive(Debug)]
enum Memory {
    Host(Vec<Line>),
    #[cfg(has_cuda)]
    Cuda(crate::cuda::CudaMemory),
    #[cfg(has_wgpu)]
    Wgpu(::wgpu::Buffer),
}

impl Buffer {
    /// Zeros in host memory.
    pub(crate) fn zeroed(dtype: DType, len: usize) -> Result<Self> {
        let bytes = Self::size_of(dtype, len)?;
        let lines = bytemuck::allocation::try_zeroed_vec(bytes.div_ceil(size_of::<Line>()))
            .map_err(|()| Error::OutOfMemory { bytes })?;
        Ok(Self { memory: Memory::Host(lines), len, dtype })
    }

    /// `len` elements in memory of a GPU, which is large enough.
    #[cfg(has_cuda)]
    pub(crate) const fn from_cuda(memory: crate::cuda::CudaMemory, dtype: DType, len: usize) -> Self {
        Self { memory: Memory::Cuda(memory), len, dtype }
    }

    /// `len` elements at the beginning of a wgpu buffer, which is large enough.
    #[cfg(has_wgpu)]
    pub(crate) const fn from_wgpu(buffer: ::wgpu::Buffer, dtype: DType, len: usize) -> Self {
        Self { memory: Memory::Wgpu(buffer), len, dtype }
    }

    /// Bytes of so many elements.
    pub(crate) fn size_of(dtype: DType, len: usize) -> Result<usize> {
        len.checked_mul(dtype.size()).ok_or(Error::OutOfMemory { bytes: usize::MAX })
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
    pub fn backend(&self) -> Backend {
        self.place().0.backend()
    }
    /// The elements, if they lie in host memory and are of type `T`.
    #[must_use]
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        if T::DTYPE == self.dtype { self.bytes().map(bytemuck::cast_slice) } else { None }
    }
    /// The elements, if they lie in host memory and are of type `T`.
    #[must_use]
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        if T::DTYPE == self.dtype { self.bytes_mut().map(bytemuck::cast_slice_mut) } else { None }
    }

    /// The buffer of wgpu that the elements are at the beginning of, if they are in one. It may be longer than they are.
    #[cfg(has_wgpu)]
    #[must_use]
    pub const fn as_wgpu(&self) -> Option<&::wgpu::Buffer> {
        if let Memory::Wgpu(buffer) = &self.memory { Some(buffer) } else { None }
    }

    /// A view of the elements of a range, or `None` if they do not all lie in the buffer.
    #[must_use]
    pub fn view(&self, range: Range<usize>) -> Option<View<'_>> {
        View::from(self).part(range)
    }
    /// A view of the elements of a range, or `None` if they do not all lie in the buffer.
    #[must_use]
    pub fn view_mut(&mut self, range: Range<usize>) -> Option<ViewMut<'_>> {
        ViewMut::from(self).part(range)
    }

    /// The bytes, if they lie in host memory.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        let bytes = self.len * self.dtype.size();
        match &self.memory {
            Memory::Host(lines) => Some(&bytemuck::must_cast_slice(lines)[..bytes]),
            #[cfg(has_cuda)]
            Memory::Cuda(_) => None,
            #[cfg(has_wgpu)]
            Memory::Wgpu(_) => None,
        }
    }
    /// The bytes, if they lie in host memory.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let bytes = self.len * self.dtype.size();
        match &mut self.memory {
            Memory::Host(lines) => Some(&mut bytemuck::must_cast_slice_mut(lines)[..bytes]),
            #[cfg(has_cuda)]
            Memory::Cuda(_) => None,
            #[cfg(has_wgpu)]
            Memory::Wgpu(_) => None,
        }
    }

    /// The memory, if it is a GPU's by CUDA.
    #[cfg(has_cuda)]
    pub(crate) const fn cuda(&self) -> Option<&crate::cuda::CudaMemory> {
        if let Memory::Cuda(memory) = &self.memory { Some(memory) } else { None }
    }
    /// The memory, if it is a GPU's by CUDA.
    #[cfg(has_cuda)]
    pub(crate) const fn cuda_mut(&mut self) -> Option<&mut crate::cuda::CudaMemory> {
        if let Memory::Cuda(memory) = &mut self.memory { Some(memory) } else { None }
    }

    /// The memory, and the address of the first element in it.
    pub(crate) fn place(&self) -> (Place<'_>, *const u8) {
        match &self.memory {
            Memory::Host(lines) => (Place::Host, lines.as_ptr().cast()),
            #[cfg(has_cuda)]
            Memory::Cuda(memory) => {
                (Place::Cuda(memory.ordinal()), core::ptr::without_provenance(memory.address() as usize))
            }
            #[cfg(has_wgpu)]
            Memory::Wgpu(buffer) => (Place::Wgpu(buffer), core::ptr::null()),
        }
    }
    /// The memory, and the address of the first element in it.
    pub(crate) fn place_mut(&mut self) -> (Place<'_>, *mut u8) {
        match &mut self.memory {
            Memory::Host(lines) => (Place::Host, lines.as_mut_ptr().cast()),
            #[cfg(has_cuda)]
            Memory::Cuda(memory) => {
                (Place::Cuda(memory.ordinal()), core::ptr::without_provenance_mut(memory.address() as usize))
            }
            #[cfg(has_wgpu)]
            Memory::Wgpu(buffer) => (Place::Wgpu(buffer), core::ptr::null_mut()),
        }
    }
}
