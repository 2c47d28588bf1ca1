//! The ops as functions of tensors, for models that hold their parameters themselves.

use candle_core::{DType, Error, Result, Tensor, bail};
use dyt::{Op, Problem, Std};

use crate::Channels;
use crate::call::{self, Parameters};
use crate::fused::Fused;
use crate::place::{Guards, Source, dtype, tensor};

/// gamma and beta: one value for each channel. Absent, they are 1 and 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Affine<'a> {
    /// The stored weight; gamma is weight + offset.
    pub weight: Option<&'a Tensor>,
    /// beta.
    pub bias: Option<&'a Tensor>,
    /// What the kernels add to the weight, in f32: 1 for Gemma's.
    pub offset: f32,
}

impl<'a> Affine<'a> {
    /// gamma alone.
    #[must_use]
    pub const fn weight(weight: &'a Tensor) -> Self {
        Self { weight: Some(weight), bias: None, offset: 0.0 }
    }
    /// With beta too.
    #[must_use]
    pub const fn with_bias(self, bias: &'a Tensor) -> Self {
        Self { bias: Some(bias), ..self }
    }
    /// With gamma = weight + `offset`.
    #[must_use]
    pub const fn with_offset(self, offset: f32) -> Self {
        Self { offset, ..self }
    }
}

/// gamma·tanh(alpha·x) + beta; alpha has one element, and any rank.
///
/// x is f32, f16 or bf16, and y has its dtype and shape. gamma and beta are vectors, one element for each channel.
///
/// # Errors
/// x has another dtype, a shape does not fit, or the tensors lie on different devices.
pub fn dynamic_tanh(x: &Tensor, alpha: &Tensor, affine: Affine<'_>, channels: Channels) -> Result<Tensor> {
    Call { scalars: &[alpha], ..Call::new(Op::Dyt, affine) }.run(x, channels)
}

/// gamma·erf(alpha·x + shift) + beta; alpha and shift have one element each.
///
/// # Errors
/// As [`dynamic_tanh`].
pub fn derf(
    x: &Tensor,
    alpha: &Tensor,
    shift: &Tensor,
    affine: Affine<'_>,
    channels: Channels,
) -> Result<Tensor> {
    Call { scalars: &[alpha, shift], ..Call::new(Op::Derf, affine) }.run(x, channels)
}

/// (x − mean)·rstd·gamma + beta, with rstd in the form that `std` says.
///
/// # Errors
/// As [`dynamic_tanh`].
pub fn layer_norm(x: &Tensor, affine: Affine<'_>, eps: f64, std: Std, channels: Channels) -> Result<Tensor> {
    Call { std, eps: Some(eps), ..Call::new(Op::LayerNorm, affine) }.run(x, channels)
}

/// x·rstd·gamma + beta with rstd = 1/√(Σx²/cols + eps).
///
/// # Errors
/// As [`dynamic_tanh`].
pub fn rms_norm(x: &Tensor, affine: Affine<'_>, eps: f64, channels: Channels) -> Result<Tensor> {
    Call { eps: Some(eps), ..Call::new(Op::RmsNorm, affine) }.run(x, channels)
}

/// An op with its parameters.
#[derive(Clone, Copy)]
struct Call<'a> {
    op: Op,
    std: Std,
    eps: Option<f64>,
    /// alpha, then shift, as far as the op has them.
    scalars: &'a [&'a Tensor],
    affine: Affine<'a>,
}

impl<'a> Call<'a> {
    const fn new(op: Op, affine: Affine<'a>) -> Self {
        Self { op, std: Std::Biased, eps: None, scalars: &[], affine }
    }

    fn run(&self, x: &Tensor, channels: Channels) -> Result<Tensor> {
        let axis = channels.axis(x.rank())?;
        if x.is_contiguous() {
            return self.along(x, axis);
        }
        // A permuted view of contiguous data: the op runs on the data as they lie, and its result is viewed alike.
        for place in (0..x.rank()).filter(|place| *place != axis) {
            let lying = x.permute(moved(x.rank(), axis, place))?;
            if lying.is_contiguous() {
                return self.along(&lying, place)?.permute(moved(x.rank(), place, axis));
            }
        }
        self.along(&x.contiguous()?, axis)
    }

    /// On a contiguous tensor.
    fn along(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        let tracked = self.tensors().chain([x]).any(Tensor::track_op);
        // alpha, shift and beta travel together, as f32, through a graph.
        let joined = tracked && !self.scalars.is_empty() && self.affine.bias.is_some();
        let affine = || [self.affine.weight, self.affine.bias].into_iter().flatten();
        let same = affine().all(|p| p.dtype() == x.dtype());
        let dtype = if same && !joined { x.dtype() } else { DType::F32 };
        let ready = |p: Option<&Tensor>| p.map(|p| p.to_dtype(dtype)?.contiguous()).transpose();
        let (gamma, beta) = (ready(self.affine.weight)?, ready(self.affine.bias)?);
        let scalars = self.scalars.iter().map(|s| s.flatten_all()?.to_dtype(DType::F32)?.contiguous());
        let scalars = scalars.collect::<Result<Vec<_>>>()?;
        if scalars.iter().any(|s| s.elem_count() != 1) {
            bail!("{}: alpha and shift have one element each", self.op);
        }
        let problem = self.problem(x, axis, dtype)?;
        if !tracked {
            return direct(&problem, x, &scalars, gamma.as_ref(), beta.as_ref());
        }
        let parts: Vec<_> = scalars.iter().chain(beta.as_ref()).collect();
        let rest = match parts[..] {
            [] => None,
            [one] => Some(one.clone()),
            _ => Some(Tensor::cat(&parts, 0)?),
        };
        Fused::apply(problem, x, gamma.as_ref(), rest.as_ref(), beta.is_some())
    }

    fn tensors(&self) -> impl Iterator<Item = &'a Tensor> {
        self.scalars.iter().copied().chain(self.affine.weight).chain(self.affine.bias)
    }

    fn problem(&self, x: &Tensor, axis: usize, parameters: DType) -> Result<Problem> {
        let dims = x.dims();
        let (mut rows, mut inner): (usize, usize) =
            (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
        if inner == 0 {
            // No element: the same as no row.
            (rows, inner) = (0, 1);
        }
        let mut problem = Problem::new(self.op, rows, dims[axis])
            .inner(inner)
            .std(self.std)
            .dtype(dtype(x.dtype())?)
            .param_dtype(dtype(parameters)?)
            .gamma_offset(self.affine.offset);
        if let Some(eps) = self.eps {
            problem = problem.eps(eps as f32);
        }
        problem.build().map_err(Error::wrap)
    }
}

/// The order of dimensions that takes the one at `from` to `to` and keeps the others in theirs.
fn moved(rank: usize, from: usize, to: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rank).filter(|dim| *dim != from).collect();
    order.insert(to, from);
    order
}

/// The forward where nothing asks for gradients: every tensor is read where it lies.
fn direct(
    problem: &Problem,
    x: &Tensor,
    scalars: &[Tensor],
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
) -> Result<Tensor> {
    let (storage, layout) = x.storage_and_layout();
    let place = Source::of(&storage)?.place()?;
    let held = [scalars.first(), scalars.get(1), gamma, beta].map(|t| t.map(Tensor::storage_and_layout));
    let mut guards = Guards::default();
    let mut views = [None; 4];
    for (view, held) in views.iter_mut().zip(&held) {
        if let Some((storage, layout)) = held {
            *view = Some(Source::of(storage)?.view(layout, &place, &mut guards)?);
        }
    }
    let [alpha, shift, gamma, beta] = views;
    let view = Source::of(&storage)?.view(layout, &place, &mut guards)?;
    let (y, _) = call::forward(problem, &place, view, &Parameters { alpha, shift, gamma, beta }, false)?;
    Ok(tensor(y, x.shape()))
}
