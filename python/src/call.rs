//! A call by addresses: what every submodule brings its framework's arrays to.

use core::ptr::NonNull;

use dyt::{Backward, DType, Dsum, Forward, Problem, Residual, View, ViewMut};

/// The memory that all addresses of one call lie in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory {
    /// Addresses are pointers.
    Host,
    /// Addresses are device pointers of the GPU of that number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

impl Memory {
    /// A view of `len` elements; an address of an empty array may be 0.
    ///
    /// # Safety
    /// As [`View::from_raw_parts`] or [`View::from_cuda`].
    unsafe fn view<'a>(self, address: usize, len: usize, dtype: DType) -> View<'a> {
        match self {
            // SAFETY: promised by the caller; nothing is read where there are no elements.
            Self::Host => unsafe { View::from_raw_parts(pointer(address, dtype), len, dtype) },
            #[cfg(feature = "cuda")]
            // SAFETY: promised by the caller.
            Self::Cuda(ordinal) => unsafe { View::from_cuda(ordinal, address as u64, len, dtype) },
        }
    }

    /// As [`Self::view`], to be written.
    ///
    /// # Safety
    /// As [`ViewMut::from_raw_parts`] or [`ViewMut::from_cuda`].
    pub(crate) unsafe fn view_mut<'a>(self, address: usize, len: usize, dtype: DType) -> ViewMut<'a> {
        match self {
            // SAFETY: as in `view`.
            Self::Host => unsafe { ViewMut::from_raw_parts(pointer(address, dtype), len, dtype) },
            #[cfg(feature = "cuda")]
            // SAFETY: promised by the caller.
            Self::Cuda(ordinal) => unsafe { ViewMut::from_cuda(ordinal, address as u64, len, dtype) },
        }
    }

    /// As [`Self::view`]; `None` where the address is 0.
    ///
    /// # Safety
    /// As [`Self::view`].
    unsafe fn read<'a>(self, address: usize, len: usize, dtype: DType) -> Option<View<'a>> {
        // SAFETY: promised by the caller.
        (address != 0).then(|| unsafe { self.view(address, len, dtype) })
    }

    /// As [`Self::view_mut`]; `None` where the address is 0.
    ///
    /// # Safety
    /// As [`Self::view_mut`].
    unsafe fn write<'a>(self, address: usize, len: usize, dtype: DType) -> Option<ViewMut<'a>> {
        // SAFETY: promised by the caller.
        (address != 0).then(|| unsafe { self.view_mut(address, len, dtype) })
    }
}

/// The address as a pointer. Frameworks give 0 for an empty array: there any aligned address serves.
fn pointer(address: usize, dtype: DType) -> NonNull<u8> {
    let address = if address == 0 { dtype.size() } else { address };
    NonNull::new(core::ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
}

/// The addresses of a forward; 0 for what is absent. x and y are always there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ForwardAt {
    pub(crate) x: usize,
    pub(crate) residual: usize,
    pub(crate) alpha: usize,
    pub(crate) shift: usize,
    pub(crate) gamma: usize,
    pub(crate) beta: usize,
    pub(crate) y: usize,
    pub(crate) sum: usize,
    pub(crate) mean: usize,
    pub(crate) rstd: usize,
    pub(crate) scale: usize,
    pub(crate) scales: usize,
}

impl ForwardAt {
    /// The arguments, with the lengths and dtypes that the problem says.
    ///
    /// # Safety
    /// Each address that is not 0 is valid in `memory` for as many elements as [`Forward`]'s table says, for as long as the
    /// arguments are used; nothing else touches the outputs meanwhile.
    pub(crate) unsafe fn arguments<'a>(&self, problem: &Problem, memory: Memory) -> Forward<'a> {
        let (data, param) = (problem.dtype(), problem.param_dtype());
        let (span, params, rows) = (problem.span(), problem.params(), problem.statistics());
        // SAFETY: promised by the caller.
        unsafe {
            let y = memory.view_mut(self.y, problem.y_span(), problem.y_dtype());
            let mut forward = Forward::new(memory.view(self.x, span, data), y);
            forward.residual = memory.read(self.residual, span, data).map(Residual::Apart);
            forward.sum = memory.write(self.sum, span, data);
            forward.alpha = memory.read(self.alpha, 1, DType::F32);
            forward.shift = memory.read(self.shift, 1, DType::F32);
            forward.gamma = memory.read(self.gamma, params, param);
            forward.beta = memory.read(self.beta, params, param);
            forward.mean = memory.write(self.mean, rows, DType::F32);
            forward.rstd = memory.write(self.rstd, rows, DType::F32);
            forward.scale = memory.read(self.scale, 1, DType::F32);
            forward.scales = memory.write(self.scales, rows, DType::F32);
            forward
        }
    }
}

/// The addresses of a backward; 0 for what is absent. dy and x are always there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackwardAt {
    pub(crate) dy: usize,
    pub(crate) x: usize,
    pub(crate) dsum: usize,
    pub(crate) alpha: usize,
    pub(crate) shift: usize,
    pub(crate) gamma: usize,
    pub(crate) mean: usize,
    pub(crate) rstd: usize,
    pub(crate) dx: usize,
    pub(crate) dalpha: usize,
    pub(crate) dshift: usize,
    pub(crate) dgamma: usize,
    pub(crate) dbeta: usize,
}

impl BackwardAt {
    /// As [`ForwardAt::arguments`].
    ///
    /// # Safety
    /// As [`ForwardAt::arguments`], by [`Backward`]'s table.
    pub(crate) unsafe fn arguments<'a>(&self, problem: &Problem, memory: Memory) -> Backward<'a> {
        let (data, param) = (problem.dtype(), problem.param_dtype());
        let (span, params, rows) = (problem.span(), problem.params(), problem.statistics());
        // SAFETY: promised by the caller.
        unsafe {
            let dy = memory.view(self.dy, problem.y_span(), data);
            let mut backward = Backward::of(memory.view(self.x, span, data)).dy(dy);
            backward.dsum = memory.read(self.dsum, span, data).map(Dsum::Apart);
            backward.alpha = memory.read(self.alpha, 1, DType::F32);
            backward.shift = memory.read(self.shift, 1, DType::F32);
            backward.gamma = memory.read(self.gamma, params, param);
            backward.mean = memory.read(self.mean, rows, DType::F32);
            backward.rstd = memory.read(self.rstd, rows, DType::F32);
            backward.dx = memory.write(self.dx, span, data);
            backward.dalpha = memory.write(self.dalpha, 1, DType::F32);
            backward.dshift = memory.write(self.dshift, 1, DType::F32);
            backward.dgamma = memory.write(self.dgamma, params, DType::F32);
            backward.dbeta = memory.write(self.dbeta, params, DType::F32);
            backward
        }
    }
}
