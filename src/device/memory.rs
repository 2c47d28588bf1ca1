//! The memory of a device: buffers, and copies between them and the host.

use super::{Backend, Device, Inner};
use crate::view::{View, ViewMut};
use crate::{Argument, Buffer, DType, Error, Result};

impl Device {
    /// Makes a buffer of `len` zeros, on the CPU aligned to 64 bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; on a GPU what its driver reports.
    pub fn zeros(&self, dtype: DType, len: usize) -> Result<Buffer> {
        match &self.inner {
            Inner::Cpu(_) => Buffer::zeroed(dtype, len),
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.zeros(dtype, len),
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.zeros(dtype, len),
        }
    }

    /// Copies from host memory into a new buffer.
    ///
    /// # Errors
    /// [`Error::WrongDevice`] if the source is not host memory; [`Error::OutOfMemory`]; on a GPU what its driver
    /// reports.
    pub fn upload<'a>(&self, source: impl Into<View<'a>>) -> Result<Buffer> {
        let source = source.into();
        on_host(Argument::X, source.backend())?;
        match &self.inner {
            Inner::Cpu(_) => {
                let mut buffer = Buffer::zeroed(source.dtype(), source.len())?;
                let bytes = buffer.bytes_mut().unwrap_or_default();
                // SAFETY: a view of host memory is valid for reads of its elements, and the new buffer has as many
                // bytes and is apart.
                unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
                Ok(buffer)
            }
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.upload(source),
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.upload(&source),
        }
    }

    /// Copies from host memory to memory of this device that is there already, of the same dtype and length. On a GPU it
    /// waits until that is done.
    ///
    /// # Errors
    /// [`Error::WrongDtype`], [`Error::WrongLength`], [`Error::WrongDevice`], [`Error::Misaligned`]; the argument named is
    /// [`Argument::X`] for the source and [`Argument::Y`] for the target. On a GPU what its driver reports.
    pub fn write<'a, 'b>(&self, source: impl Into<View<'a>>, target: impl Into<ViewMut<'b>>) -> Result<()> {
        let (source, target) = (source.into(), target.into());
        on_host(Argument::X, source.backend())?;
        check_copy(&source, &target)?;
        self.memory().check(Argument::Y, target.place())?;
        match &self.inner {
            // SAFETY: views are valid for their elements, of which both have as many; `copy` minds no overlap.
            Inner::Cpu(_) => unsafe { copy_bytes(&source, &target) },
            #[cfg(has_cuda)]
            // SAFETY: the target lies in this device's memory.
            Inner::Cuda(cuda) => unsafe { cuda.write(source, &target)? },
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.write(&source, &target)?,
        }
        Ok(())
    }

    /// Copies from memory of this device to host memory of the same dtype and length. On a GPU it waits for the work that
    /// has been enqueued before.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn read<'a, 'b>(&self, source: impl Into<View<'a>>, target: impl Into<ViewMut<'b>>) -> Result<()> {
        let (source, target) = (source.into(), target.into());
        on_host(Argument::Y, target.backend())?;
        check_copy(&source, &target)?;
        self.memory().check(Argument::X, source.place())?;
        match &self.inner {
            // SAFETY: views are valid for their elements, of which both have as many; `copy` minds no overlap.
            Inner::Cpu(_) => unsafe { copy_bytes(&source, &target) },
            #[cfg(has_cuda)]
            // SAFETY: the source lies in this device's memory.
            Inner::Cuda(cuda) => unsafe { cuda.read(source, &target)? },
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.read(&source, &target)?,
        }
        Ok(())
    }

    /// Waits until everything that this device was asked for has been done. On the CPU every call has done its work
    /// when it returns.
    ///
    /// # Errors
    /// On a GPU, what its driver reports of the work that was waited for.
    pub fn synchronize(&self) -> Result<()> {
        match &self.inner {
            Inner::Cpu(_) => Ok(()),
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.synchronize(),
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.synchronize(),
        }
    }

    /// Copies a buffer to another one of this device, of the same dtype and length. On a GPU it is enqueued, as calls are.
    ///
    /// # Errors
    /// [`Error::WrongDtype`], [`Error::WrongLength`] and, for a buffer of another backend, [`Error::WrongDevice`]; the
    /// argument named is [`Argument::X`] for the source and [`Argument::Y`] for the target.
    pub fn copy(&self, source: &Buffer, target: &mut Buffer) -> Result<()> {
        check_copy(&source.into(), &ViewMut::from(&mut *target))?;
        let expected = self.backend();
        for (argument, actual) in [(Argument::X, source.backend()), (Argument::Y, target.backend())] {
            if actual != expected {
                return Err(Error::WrongDevice { argument, expected, actual });
            }
        }
        match &self.inner {
            Inner::Cpu(_) => {
                // Both lie in host memory, as was just seen.
                let views = (View::from(source), ViewMut::from(target));
                // SAFETY: views are valid for their elements, of which both have as many.
                unsafe { copy_bytes(&views.0, &views.1) };
                Ok(())
            }
            #[cfg(has_cuda)]
            Inner::Cuda(cuda) => cuda.copy(source, target),
            #[cfg(has_wgpu)]
            Inner::Wgpu(wgpu) => wgpu.copy(source, target),
        }
    }
}

/// Refuses to copy between views that differ in dtype or length.
fn check_copy(source: &View<'_>, target: &ViewMut<'_>) -> Result<()> {
    let argument = Argument::Y;
    if target.dtype() != source.dtype() {
        return Err(Error::WrongDtype { argument, expected: source.dtype(), actual: target.dtype() });
    }
    if target.len() != source.len() {
        return Err(Error::WrongLength { argument, expected: source.len(), actual: target.len() });
    }
    Ok(())
}

/// # Safety
/// Both views lie in host memory, and the target has as many bytes as the source.
unsafe fn copy_bytes(source: &View<'_>, target: &ViewMut<'_>) {
    let bytes = source.len() * source.dtype().size();
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy(source.as_ptr(), target.address(), bytes) };
}

/// Refuses an argument that has to be host memory and is not.
fn on_host(argument: Argument, actual: Backend) -> Result<()> {
    let expected = Backend::Cpu;
    if actual == expected { Ok(()) } else { Err(Error::WrongDevice { argument, expected, actual }) }
}
