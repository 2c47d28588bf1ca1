//! Calls of dyt on CUDA storage: on candle's context and stream, and in memory that candle allocates.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};
use candle_core::{CudaDevice, CudaStorage, Error, Result, bail};
use dyt::cuda::CudaKernels;
use dyt::{Backward, DType, Element, Forward, Pass, Problem, View, ViewMut};

use crate::place::Guards;

/// Tells cudarc, when it is dropped, that a stream has read or written a slice.
pub(crate) type Guard<'a> = SyncOnDrop<'a>;

/// A GPU of candle's, with dyt's kernels in its context.
pub(crate) struct Gpu {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    kernels: CudaKernels,
}

impl Gpu {
    /// The kernels are loaded once for each GPU: candle works in its primary context, which all its devices share.
    pub(crate) fn of(device: &CudaDevice) -> Result<Self> {
        static LOADED: Mutex<Option<HashMap<usize, CudaKernels>>> = Mutex::new(None);
        let stream = device.cuda_stream();
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        let ordinal = stream.context().ordinal();
        let kernels = match loaded.get(&ordinal) {
            Some(kernels) => kernels.clone(),
            None => {
                let kernels = CudaKernels::new(stream.context()).map_err(Error::wrap)?;
                loaded.entry(ordinal).or_insert(kernels).clone()
            }
        };
        Ok(Self { device: device.clone(), stream, kernels })
    }

    /// New storage, of at least one element, whose content is anything.
    pub(crate) fn storage(&self, dtype: DType, len: usize) -> Result<CudaStorage> {
        let len = len.max(1);
        // SAFETY: every element is written before it is read: by the call that this is an output of.
        let slice = unsafe {
            match dtype {
                DType::F32 => CudaStorageSlice::F32(self.device.alloc(len)?),
                DType::F16 => CudaStorageSlice::F16(self.device.alloc(len)?),
                DType::Bf16 => CudaStorageSlice::BF16(self.device.alloc(len)?),
                DType::Quant(quant) => candle_core::bail!("the CUDA kernels do not write {quant} yet"),
            }
        };
        Ok(CudaStorage { slice, device: self.device.clone() })
    }

    /// The elements from one to another, to be read by work on the stream.
    pub(crate) fn view<'a>(
        &'a self,
        storage: &'a CudaStorage,
        range: (usize, usize),
        guards: &mut Guards<'a>,
    ) -> Result<View<'a>> {
        match &storage.slice {
            CudaStorageSlice::F32(slice) => self.part(slice, range, guards),
            CudaStorageSlice::F16(slice) => self.part(slice, range, guards),
            CudaStorageSlice::BF16(slice) => self.part(slice, range, guards),
            _ => bail!("dyt takes tensors of f32, f16 and bf16"),
        }
    }

    fn part<'a, T: Element>(
        &'a self,
        slice: &'a CudaSlice<T>,
        (begin, end): (usize, usize),
        guards: &mut Guards<'a>,
    ) -> Result<View<'a>> {
        if begin > end || end > slice.len() {
            bail!("elements {begin} to {end} of {}", slice.len());
        }
        let ordinal = slice.stream().context().ordinal();
        let (address, guard) = slice.device_ptr(&self.stream);
        guards.held.push(guard);
        let address = address + (begin * size_of::<T>()) as u64;
        // SAFETY: the elements lie in the slice, which lives as long as the view, and cudarc frees it behind what the
        // guard records on this stream.
        Ok(unsafe { View::from_cuda(ordinal, address, end - begin, T::DTYPE) })
    }

    /// Parts of a storage, one behind the other, to be written by work on the stream.
    pub(crate) fn parts<'a, const N: usize>(
        &'a self,
        storage: &'a mut CudaStorage,
        lens: [usize; N],
        guards: &mut Guards<'a>,
    ) -> Result<[ViewMut<'a>; N]> {
        match &mut storage.slice {
            CudaStorageSlice::F32(slice) => self.parts_of(slice, lens, guards),
            CudaStorageSlice::F16(slice) => self.parts_of(slice, lens, guards),
            CudaStorageSlice::BF16(slice) => self.parts_of(slice, lens, guards),
            _ => bail!("dyt writes tensors of f32, f16 and bf16"),
        }
    }

    fn parts_of<'a, T: Element, const N: usize>(
        &'a self,
        slice: &'a mut CudaSlice<T>,
        lens: [usize; N],
        guards: &mut Guards<'a>,
    ) -> Result<[ViewMut<'a>; N]> {
        if lens.iter().sum::<usize>() > slice.len() {
            bail!("parts of {lens:?} elements in {}", slice.len());
        }
        let ordinal = slice.stream().context().ordinal();
        let (mut address, guard) = slice.device_ptr_mut(&self.stream);
        guards.held.push(guard);
        Ok(lens.map(|len| {
            let begin = address;
            address += (len * size_of::<T>()) as u64;
            // SAFETY: the parts lie in the slice and apart, the slice is borrowed for as long as the views, and cudarc
            // frees it behind what the guard records on this stream.
            unsafe { ViewMut::from_cuda(ordinal, begin, len, T::DTYPE) }
        }))
    }

    /// Enqueues a forward.
    pub(crate) fn forward(&self, problem: &Problem, call: Forward<'_>) -> Result<()> {
        // SAFETY: the stream is of the context that the kernels are in; the views were made by this type, for work on
        // this stream, and their guards outlive the call.
        unsafe { self.kernels.forward(&self.stream, problem, call) }.map_err(Error::wrap)
    }

    /// Enqueues a backward, with a workspace that is freed in the order of the stream.
    pub(crate) fn backward(&self, problem: &Problem, call: Backward<'_>) -> Result<()> {
        let values = self.kernels.workspace_bytes(problem, Pass::Backward).div_ceil(DType::F32.size());
        let mut workspace = self.storage(DType::F32, values)?;
        let mut guards = Guards::default();
        let [workspace] = self.parts(&mut workspace, [values], &mut guards)?;
        // SAFETY: as in `forward`, also of the workspace.
        unsafe { self.kernels.backward(&self.stream, problem, call, workspace) }.map_err(Error::wrap)
    }
}
