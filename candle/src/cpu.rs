//! Calls of dyt on slices that candle owns.

use std::sync::OnceLock;

use candle_core::{CpuStorage, DType, Error, Layout, Result, WithDType, bail};
use dyt::{Backward, Device, Element, Forward, Op, Problem, View, ViewMut};
use half::{bf16, f16};

/// The CPU, opened once.
pub(crate) fn device() -> Result<&'static Device> {
    static CPU: OnceLock<dyt::Result<Device>> = OnceLock::new();
    CPU.get_or_init(|| Device::open("cpu")).as_ref().map_err(|e| Error::wrap(e.clone()))
}

/// dyt's tag of an element type.
pub(crate) fn dtype(dtype: DType) -> Result<dyt::DType> {
    match dtype {
        DType::F32 => Ok(dyt::DType::F32),
        DType::F16 => Ok(dyt::DType::F16),
        DType::BF16 => Ok(dyt::DType::Bf16),
        other => bail!("dyt takes tensors of f32, f16 and bf16, not {other:?}"),
    }
}

/// The elements of a contiguous tensor, where they lie.
pub(crate) fn view<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<View<'a>> {
    fn part<'a, T: Element + WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<View<'a>> {
        let Some((begin, end)) = layout.contiguous_offsets() else {
            bail!("dyt was handed a tensor that is not contiguous: {layout:?}");
        };
        Ok(View::from(&storage.as_slice::<T>()?[begin..end]))
    }
    match storage {
        CpuStorage::F32(_) => part::<f32>(storage, layout),
        CpuStorage::F16(_) => part::<f16>(storage, layout),
        CpuStorage::BF16(_) => part::<bf16>(storage, layout),
        _ => bail!("dyt takes tensors of f32, f16 and bf16"),
    }
}

/// The elements of a contiguous f32 tensor.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((begin, end)) => Ok(&storage.as_slice::<f32>()?[begin..end]),
        None => bail!("dyt was handed a tensor that is not contiguous: {layout:?}"),
    }
}

/// New storage of `len` zeros.
pub(crate) fn zeros(dtype: dyt::DType, len: usize) -> CpuStorage {
    match dtype {
        dyt::DType::F32 => CpuStorage::F32(vec![0.0; len]),
        dyt::DType::F16 => CpuStorage::F16(vec![f16::ZERO; len]),
        dyt::DType::Bf16 => CpuStorage::BF16(vec![bf16::ZERO; len]),
    }
}

/// All of a storage that [`zeros`] made, to be written.
fn view_mut(storage: &mut CpuStorage) -> Result<ViewMut<'_>> {
    match storage {
        CpuStorage::F32(v) => Ok(v.into()),
        CpuStorage::F16(v) => Ok(v.into()),
        CpuStorage::BF16(v) => Ok(v.into()),
        _ => bail!("dyt writes tensors of f32, f16 and bf16"),
    }
}

/// The parameters of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parameters<'a> {
    pub(crate) alpha: Option<View<'a>>,
    pub(crate) shift: Option<View<'a>>,
    pub(crate) gamma: Option<View<'a>>,
    pub(crate) beta: Option<View<'a>>,
}

/// What the forward of a norm saves for its backward: f32, a value each row.
#[derive(Debug)]
pub(crate) struct Statistics {
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

/// y, and the statistics where they are wanted and there are any.
pub(crate) fn forward(
    problem: &Problem,
    x: View<'_>,
    parameters: &Parameters<'_>,
    keep: bool,
) -> Result<(CpuStorage, Option<Statistics>)> {
    let mut y = zeros(problem.dtype(), problem.elements());
    let keep = keep && !problem.op().is_pointwise();
    let (means, rstds) = match problem.op() {
        Op::LayerNorm if keep => (problem.statistics(), problem.statistics()),
        _ if keep => (0, problem.statistics()),
        _ => (0, 0),
    };
    let mut kept = Statistics { mean: vec![0.0; means], rstd: vec![0.0; rstds] };
    let mut call = Forward::new(x, view_mut(&mut y)?);
    call.alpha = parameters.alpha;
    call.shift = parameters.shift;
    call.gamma = parameters.gamma;
    call.beta = parameters.beta;
    if keep {
        call.rstd = Some((&mut kept.rstd).into());
        call.mean = problem.op().has_mean().then(|| (&mut kept.mean).into());
    }
    device()?.forward(problem, call).map_err(Error::wrap)?;
    Ok((y, keep.then_some(kept)))
}

/// The gradients that are asked for; none of them is gathered otherwise.
#[derive(Debug, Default)]
pub(crate) struct Gradients<'a> {
    /// New storage for dx, made by [`zeros`].
    pub(crate) dx: Option<&'a mut CpuStorage>,
    pub(crate) dalpha: Option<&'a mut f32>,
    pub(crate) dshift: Option<&'a mut f32>,
    pub(crate) dgamma: Option<&'a mut [f32]>,
    pub(crate) dbeta: Option<&'a mut [f32]>,
}

/// Writes the gradients in one pass.
pub(crate) fn backward(
    problem: &Problem,
    dy: View<'_>,
    x: View<'_>,
    parameters: &Parameters<'_>,
    statistics: Option<&Statistics>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let mut call = Backward::new(dy, x);
    call.alpha = parameters.alpha;
    call.shift = parameters.shift;
    call.gamma = parameters.gamma;
    if let Some(kept) = statistics {
        call.rstd = Some((&kept.rstd).into());
        call.mean = problem.op().has_mean().then(|| (&kept.mean).into());
    }
    call.dx = gradients.dx.map(view_mut).transpose()?;
    call.dalpha = gradients.dalpha.map(Into::into);
    call.dshift = gradients.dshift.map(Into::into);
    call.dgamma = gradients.dgamma.map(Into::into);
    call.dbeta = gradients.dbeta.map(Into::into);
    device()?.backward(problem, call).map_err(Error::wrap)
}
