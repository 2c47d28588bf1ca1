//! The ops as functions of tensors, for models that hold their parameters themselves.

mod quantised;

pub use quantised::{
    quant_scale, quantised_derf, quantised_dynamic_tanh, quantised_layer_norm, quantised_rms_norm,
};

use candle_core::{DType, Error, Result, Tensor, bail};
use dyt::{Op, Problem, Std};

use crate::Channels;
use crate::call::{self, Parameters, Written};
use crate::fused::Fused;
use crate::place::{Guards, Source, dtype, tensor};
use crate::rows::{self, Strided};

/// gamma and beta: one value for each channel. Absent, they are 1 and 0.
///
/// A parameter of the shape `[…, channels]` changes with the rows: what stands in front of the channels are the first
/// dimensions of x. So `[batch, channels]` beside x of `[batch, tokens, channels]` is a row for each sample.
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

    /// gamma·(1 + scale) and beta·(1 + scale) + shift: what modulates y as AdaLN does, y·(1 + scale) + shift.
    pub(crate) fn modulate(self, scale: &Tensor, shift: &Tensor) -> Result<Modulated> {
        let one = f64::from(self.offset);
        let factor = || scale.to_dtype(DType::F32)? + 1.0;
        let (weight, offset) = match self.weight {
            None => (scale.clone(), 1.0),
            Some(weight) => ((weight.to_dtype(DType::F32)? + one)?.broadcast_mul(&factor()?)?, 0.0),
        };
        let bias = match self.bias {
            None => shift.clone(),
            Some(bias) => {
                bias.to_dtype(DType::F32)?.broadcast_mul(&factor()?)?.add(&shift.to_dtype(DType::F32)?)?
            }
        };
        Ok(Modulated { weight, bias, offset })
    }
}

/// What [`Affine::modulate`] makes.
pub(crate) struct Modulated {
    weight: Tensor,
    bias: Tensor,
    offset: f32,
}

impl Modulated {
    pub(crate) const fn affine(&self) -> Affine<'_> {
        Affine { weight: Some(&self.weight), bias: Some(&self.bias), offset: self.offset }
    }
}

/// gamma·tanh(alpha·x) + beta; alpha has one element, and any rank.
///
/// x is f32, f16 or bf16, and y has its dtype and shape. Where nothing asks for gradients, a view whose channels lie side by
/// side, as the queries in a packed QKV, is read where it lies.
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

/// [`dynamic_tanh`] of sum = x + residual: y and the sum, which goes on to the next layer.
///
/// Where nothing asks for gradients both come from one pass. An op of candle's graph has one output: there candle adds, and
/// the gradients of x and of the residual are those of the graph.
///
/// # Errors
/// As [`dynamic_tanh`], and the shape or the dtype of the residual is another than that of x.
pub fn add_dynamic_tanh(
    x: &Tensor,
    residual: &Tensor,
    alpha: &Tensor,
    affine: Affine<'_>,
    channels: Channels,
) -> Result<(Tensor, Tensor)> {
    Call { scalars: &[alpha], ..Call::new(Op::Dyt, affine) }.run_added(x, residual, channels)
}

/// [`derf`] of sum = x + residual, as [`add_dynamic_tanh`] has it.
///
/// # Errors
/// As [`add_dynamic_tanh`].
pub fn add_derf(
    x: &Tensor,
    residual: &Tensor,
    alpha: &Tensor,
    shift: &Tensor,
    affine: Affine<'_>,
    channels: Channels,
) -> Result<(Tensor, Tensor)> {
    Call { scalars: &[alpha, shift], ..Call::new(Op::Derf, affine) }.run_added(x, residual, channels)
}

/// [`layer_norm`] of sum = x + residual, as [`add_dynamic_tanh`] has it.
///
/// # Errors
/// As [`add_dynamic_tanh`].
pub fn add_layer_norm(
    x: &Tensor,
    residual: &Tensor,
    affine: Affine<'_>,
    eps: f64,
    std: Std,
    channels: Channels,
) -> Result<(Tensor, Tensor)> {
    Call { std, eps: Some(eps), ..Call::new(Op::LayerNorm, affine) }.run_added(x, residual, channels)
}

/// [`rms_norm`] of sum = x + residual, as [`add_dynamic_tanh`] has it.
///
/// # Errors
/// As [`add_dynamic_tanh`].
pub fn add_rms_norm(
    x: &Tensor,
    residual: &Tensor,
    affine: Affine<'_>,
    eps: f64,
    channels: Channels,
) -> Result<(Tensor, Tensor)> {
    Call { eps: Some(eps), ..Call::new(Op::RmsNorm, affine) }.run_added(x, residual, channels)
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
        let groups = rows::groups(x, axis, self.parameters())?;
        if x.is_contiguous() {
            return self.along(x, axis, groups);
        }
        // dx would lie as x does, which candle's gradients do not; on CUDA views are not tried yet.
        let reads = x.device().is_cpu() && !self.tensors().chain([x]).any(Tensor::track_op);
        if reads
            && axis == x.rank() - 1
            && let Some(strided) = Strided::of(x.layout())
        {
            let ready = self.ready(x, strided, (axis, groups), false)?;
            return Ok(tensor(direct(&ready, x, None, None)?.y, x.shape()));
        }
        if groups > 1 {
            return self.along(&x.contiguous()?, axis, groups);
        }
        // A permuted view of contiguous data: the op runs on the data as they lie, and its result is viewed alike.
        for place in (0..x.rank()).filter(|place| *place != axis) {
            let lying = x.permute(moved(x.rank(), axis, place))?;
            if lying.is_contiguous() {
                return self.along(&lying, place, 1)?.permute(moved(x.rank(), place, axis));
            }
        }
        self.along(&x.contiguous()?, axis, 1)
    }

    /// y and the sum of x and the residual.
    fn run_added(&self, x: &Tensor, residual: &Tensor, channels: Channels) -> Result<(Tensor, Tensor)> {
        if (x.shape(), x.dtype()) != (residual.shape(), residual.dtype()) {
            let [x, residual] = [x, residual].map(|t| format!("{:?} {:?}", t.dtype(), t.shape()));
            bail!("{}: the residual is {residual}, and x is {x}", self.op);
        }
        if self.tensors().chain([x, residual]).any(Tensor::track_op) {
            let sum = (x + residual)?;
            return Ok((self.run(&sum, channels)?, sum));
        }
        let (x, residual) = (x.contiguous()?, residual.contiguous()?);
        let axis = channels.axis(x.rank())?;
        let groups = rows::groups(&x, axis, self.parameters())?;
        let ready = self.ready(&x, contiguous(&x, axis), (axis, groups), false)?;
        let Written { y, sum, .. } = direct(&ready, &x, Some(&residual), None)?;
        match sum {
            Some(sum) => Ok((tensor(y, x.shape()), tensor(sum, x.shape()))),
            None => bail!("{}: no sum was made", self.op),
        }
    }

    /// On a contiguous tensor, whose rows have so many groups of parameters.
    fn along(&self, x: &Tensor, axis: usize, groups: usize) -> Result<Tensor> {
        let tracked = self.tensors().chain([x]).any(Tensor::track_op);
        // alpha, shift and beta travel together, as f32, through a graph.
        let joined = tracked && !self.scalars.is_empty() && self.affine.bias.is_some();
        let ready = self.ready(x, contiguous(x, axis), (axis, groups), joined)?;
        if !tracked {
            return Ok(tensor(direct(&ready, x, None, None)?.y, x.shape()));
        }
        let Ready { problem, scalars, gamma, beta } = ready;
        let flat = beta.as_ref().map(Tensor::flatten_all).transpose()?;
        let parts: Vec<_> = scalars.iter().chain(flat.as_ref()).collect();
        let rest = match parts[..] {
            [] => None,
            [one] => Some(one.clone()),
            _ => Some(Tensor::cat(&parts, 0)?),
        };
        Fused::apply(problem, x, gamma.as_ref(), rest.as_ref(), beta.is_some())
    }

    /// The problem, and the parameters as its kernels take them: one row for each group of rows of x; `joined` are f32.
    fn ready(
        &self,
        x: &Tensor,
        lies: Strided,
        (axis, groups): (usize, usize),
        joined: bool,
    ) -> Result<Ready> {
        let same = self.parameters().all(|p| p.dtype() == x.dtype());
        let dtype = if same && !joined { x.dtype() } else { DType::F32 };
        let ready = |p: Option<&Tensor>| {
            let Some(p) = p else { return Ok(None) };
            let one = groups > 1 && p.elem_count() == x.dims()[axis];
            let p = if one { p.flatten_all()?.broadcast_left(groups)? } else { p.clone() };
            p.to_dtype(dtype)?.contiguous().map(Some)
        };
        let (gamma, beta) = (ready(self.affine.weight)?, ready(self.affine.bias)?);
        let scalars = self.scalars.iter().map(|s| self.scalar(s)).collect::<Result<Vec<_>>>()?;
        let problem = self.problem(x, lies, (axis, groups), dtype)?;
        Ok(Ready { problem, scalars, gamma, beta })
    }

    /// alpha, shift or a scale, as the kernels take it.
    fn scalar(&self, scalar: &Tensor) -> Result<Tensor> {
        if scalar.elem_count() != 1 {
            bail!("{}: alpha, shift and scale have one element each, not {:?}", self.op, scalar.shape());
        }
        scalar.flatten_all()?.to_dtype(DType::F32)?.contiguous()
    }

    fn parameters(&self) -> impl Iterator<Item = &'a Tensor> {
        [self.affine.weight, self.affine.bias].into_iter().flatten()
    }

    fn tensors(&self) -> impl Iterator<Item = &'a Tensor> {
        self.scalars.iter().copied().chain(self.parameters())
    }

    fn problem(
        &self,
        x: &Tensor,
        Strided { mut tokens, heads, row_stride, head_stride }: Strided,
        (axis, groups): (usize, usize),
        parameters: DType,
    ) -> Result<Problem> {
        let (cols, mut inner) = (x.dims()[axis], x.dims()[axis + 1..].iter().product());
        if inner == 0 {
            // No element: the same as no row.
            (tokens, inner) = (0, 1);
        }
        let len = cols * inner;
        let mut problem = Problem::new(self.op, tokens, cols)
            .inner(inner)
            .row_stride(row_stride.max(len))
            .heads(heads, head_stride)
            .y_strides(heads * len, len)
            .std(self.std)
            .dtype(dtype(x.dtype())?)
            .param_dtype(dtype(parameters)?)
            .gamma_offset(self.affine.offset);
        if let Some(eps) = self.eps {
            problem = problem.eps(eps as f32);
        }
        if groups > 1 {
            problem = problem.param_rows(tokens * heads / groups);
        }
        problem.build().map_err(Error::wrap)
    }
}

/// How a contiguous tensor lies.
fn contiguous(x: &Tensor, axis: usize) -> Strided {
    let len = x.dims()[axis..].iter().product();
    Strided { tokens: x.dims()[..axis].iter().product(), heads: 1, row_stride: len, head_stride: len }
}

/// The order of dimensions that takes the one at `from` to `to` and keeps the others in theirs.
fn moved(rank: usize, from: usize, to: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rank).filter(|dim| *dim != from).collect();
    order.insert(to, from);
    order
}

/// A problem and its parameters, as the kernels take them.
struct Ready {
    problem: Problem,
    scalars: Vec<Tensor>,
    gamma: Option<Tensor>,
    beta: Option<Tensor>,
}

/// The forward where nothing asks for gradients: every tensor is read where it lies.
fn direct(ready: &Ready, x: &Tensor, residual: Option<&Tensor>, scale: Option<&Tensor>) -> Result<Written> {
    let Ready { problem, scalars, gamma, beta } = ready;
    let (storage, layout) = x.storage_and_layout();
    let place = Source::of(&storage)?.place()?;
    let read = [scalars.first(), scalars.get(1), gamma.as_ref(), beta.as_ref(), residual, scale];
    let held = read.map(|t| t.map(Tensor::storage_and_layout));
    let mut guards = Guards::default();
    let mut views = [None; 6];
    for (view, held) in views.iter_mut().zip(&held) {
        if let Some((storage, layout)) = held {
            *view = Some(Source::of(storage)?.view(layout, &place, &mut guards)?);
        }
    }
    let [alpha, shift, gamma, beta, residual, scale] = views;
    let begin = layout.start_offset();
    let view = Source::of(&storage)?.part((begin, begin + problem.span()), &place, &mut guards)?;
    let parameters = Parameters { alpha, shift, gamma, beta, scale };
    call::forward(problem, &place, (view, residual), &parameters, false)
}
