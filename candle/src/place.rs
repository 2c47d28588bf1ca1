//! Where tensors lie, and calls of dyt on what lies there.

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Error, Layout, Result, Shape, Storage, Tensor, WithDType, bail};
use dyt::float8::F8E4M3;
use dyt::{Backward, Device, Element, Forward, Problem, Quant, View, ViewMut};
use half::{bf16, f16};

#[cfg(feature = "cuda")]
use crate::cuda::{self, Gpu};

/// dyt's tag of an element type.
pub(crate) fn dtype(dtype: DType) -> Result<dyt::DType> {
    match dtype {
        DType::F32 => Ok(dyt::DType::F32),
        DType::F16 => Ok(dyt::DType::F16),
        DType::BF16 => Ok(dyt::DType::Bf16),
        other => bail!(
            "dyt takes tensors of F32, F16 and BF16, not {other:?}: call `.to_dtype(DType::F32)?` on x, or give that \
             dtype to the VarBuilder and to the model's inputs"
        ),
    }
}

/// What candle holds of a tensor that is read.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Cpu(&'a CpuStorage),
    #[cfg(feature = "cuda")]
    Cuda(&'a CudaStorage),
}

/// What a call holds until it has been made, so that candle's own order of work on a GPU knows of it.
#[derive(Default)]
pub(crate) struct Guards<'a> {
    #[cfg(feature = "cuda")]
    pub(crate) held: Vec<cuda::Guard<'a>>,
    #[cfg(not(feature = "cuda"))]
    held: core::marker::PhantomData<&'a ()>,
}

impl<'a> Source<'a> {
    pub(crate) fn of(storage: &'a Storage) -> Result<Self> {
        match storage {
            Storage::Cpu(storage) => Ok(Self::Cpu(storage)),
            #[cfg(feature = "cuda")]
            Storage::Cuda(storage) => Ok(Self::Cuda(storage)),
            #[cfg(not(feature = "cuda"))]
            Storage::Cuda(_) => bail!("dyt-candle was built without its feature `cuda`"),
            Storage::Metal(_) => bail!("dyt-candle has no kernels for Metal"),
        }
    }

    pub(crate) fn place(self) -> Result<Place> {
        match self {
            Self::Cpu(_) => Place::cpu(),
            #[cfg(feature = "cuda")]
            Self::Cuda(storage) => Ok(Place::Cuda(Gpu::of(&storage.device)?)),
        }
    }

    /// The elements of a contiguous tensor, where they lie.
    pub(crate) fn view(self, layout: &Layout, place: &'a Place, guards: &mut Guards<'a>) -> Result<View<'a>> {
        let Some(range) = layout.contiguous_offsets() else {
            bail!("dyt was handed a tensor that is not contiguous: {layout:?}");
        };
        self.part(range, place, guards)
    }

    /// The elements from one to another.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::needless_pass_by_ref_mut, reason = "the GPU's views leave something there")
    )]
    pub(crate) fn part(
        self,
        range: (usize, usize),
        place: &'a Place,
        guards: &mut Guards<'a>,
    ) -> Result<View<'a>> {
        fn of<T: Element + WithDType>(
            storage: &CpuStorage,
            (begin, end): (usize, usize),
        ) -> Result<View<'_>> {
            Ok(View::from(&storage.as_slice::<T>()?[begin..end]))
        }
        let _ = &guards.held;
        match (self, place) {
            (Self::Cpu(storage), Place::Cpu(_)) => match storage {
                CpuStorage::F32(_) => of::<f32>(storage, range),
                CpuStorage::F16(_) => of::<f16>(storage, range),
                CpuStorage::BF16(_) => of::<bf16>(storage, range),
                _ => bail!("dyt takes tensors of f32, f16 and bf16"),
            },
            #[cfg(feature = "cuda")]
            (Self::Cuda(storage), Place::Cuda(gpu)) => gpu.view(storage, range, guards),
            #[cfg(feature = "cuda")]
            _ => bail!("the tensors of one call lie on different devices"),
        }
    }
}

/// A device on which candle has tensors.
pub(crate) enum Place {
    Cpu(&'static Device),
    #[cfg(feature = "cuda")]
    Cuda(Gpu),
}

impl Place {
    /// The CPU, opened once.
    fn cpu() -> Result<Self> {
        static CPU: OnceLock<dyt::Result<Device>> = OnceLock::new();
        let opened = CPU.get_or_init(|| Device::open("cpu"));
        opened.as_ref().map(Self::Cpu).map_err(|e| Error::wrap(e.clone()))
    }

    /// Storage that is to be written: zeros on the CPU, anything on a GPU.
    pub(crate) fn storage(&self, dtype: dyt::DType, len: usize) -> Result<Storage> {
        match self {
            Self::Cpu(_) => Ok(Storage::Cpu(match dtype {
                dyt::DType::F32 => CpuStorage::F32(vec![0.0; len]),
                dyt::DType::F16 => CpuStorage::F16(vec![f16::ZERO; len]),
                dyt::DType::Bf16 => CpuStorage::BF16(vec![bf16::ZERO; len]),
                dyt::DType::Quant(Quant::F8E4M3) => CpuStorage::F8E4M3(vec![F8E4M3::ZERO; len]),
                dyt::DType::Quant(quant @ (Quant::F8E5M2 | Quant::I8)) => {
                    bail!("candle has no tensor of {quant}")
                }
            })),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.storage(dtype, len).map(Storage::Cuda),
        }
    }

    /// All `len` elements of what [`Self::storage`] made, to be read.
    pub(crate) fn view<'a>(
        &'a self,
        storage: &'a Storage,
        len: usize,
        guards: &mut Guards<'a>,
    ) -> Result<View<'a>> {
        Source::of(storage)?.part((0, len), self, guards)
    }

    /// The first elements of what [`Self::storage`] made, to be written.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::needless_pass_by_ref_mut, reason = "the GPU's views leave something there")
    )]
    pub(crate) fn view_mut<'a>(
        &'a self,
        storage: &'a mut Storage,
        len: usize,
        guards: &mut Guards<'a>,
    ) -> Result<ViewMut<'a>> {
        let _ = &guards.held;
        match (self, storage) {
            (Self::Cpu(_), Storage::Cpu(storage)) => match storage {
                CpuStorage::F32(v) => Ok((&mut v[..len]).into()),
                CpuStorage::F16(v) => Ok((&mut v[..len]).into()),
                CpuStorage::BF16(v) => Ok((&mut v[..len]).into()),
                CpuStorage::F8E4M3(v) => Ok((&mut v[..len]).into()),
                _ => bail!("dyt writes tensors of f32, f16, bf16 and f8e4m3"),
            },
            #[cfg(feature = "cuda")]
            (Self::Cuda(gpu), Storage::Cuda(storage)) => {
                let [all] = gpu.parts(storage, [len], guards)?;
                Ok(all)
            }
            _ => bail!("storage of another device"),
        }
    }

    /// Parts of f32 storage that [`Self::storage`] made, one behind the other, to be written.
    pub(crate) fn floats<'a, const N: usize>(
        &'a self,
        storage: &'a mut Storage,
        lens: [usize; N],
        guards: &mut Guards<'a>,
    ) -> Result<[ViewMut<'a>; N]> {
        let _ = &guards.held;
        match (self, storage) {
            (Self::Cpu(_), Storage::Cpu(CpuStorage::F32(values))) => {
                let mut left = values.as_mut_slice();
                Ok(lens.map(|len| {
                    let (part, behind) = core::mem::take(&mut left).split_at_mut(len);
                    left = behind;
                    ViewMut::from(part)
                }))
            }
            #[cfg(feature = "cuda")]
            (Self::Cuda(gpu), Storage::Cuda(storage)) => gpu.parts(storage, lens, guards),
            _ => bail!("storage of another device"),
        }
    }

    /// Runs or enqueues a forward.
    pub(crate) fn forward(&self, problem: &Problem, call: Forward<'_>) -> Result<()> {
        match self {
            Self::Cpu(device) => device.forward(problem, call).map_err(Error::wrap),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.forward(problem, call),
        }
    }

    /// Runs or enqueues a backward.
    pub(crate) fn backward(&self, problem: &Problem, call: Backward<'_>) -> Result<()> {
        match self {
            Self::Cpu(device) => device.backward(problem, call).map_err(Error::wrap),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.backward(problem, call),
        }
    }
}

/// Storage as a tensor, outside of any graph. Nothing is copied.
pub(crate) fn tensor(storage: Storage, shape: &Shape) -> Tensor {
    Tensor::from_storage(storage, shape.clone(), BackpropOp::none(), false)
}
