//! One call of an op, on whatever device its tensors lie.

use candle_core::{Layout, Result, Storage};
use dyt::{Backward, Forward, Problem, View};

use crate::place::{Guards, Place, Source};

/// A tensor that is read: its storage and its layout, which is contiguous.
pub(crate) type Read<'a> = (Source<'a>, &'a Layout);

/// The parameters of a call.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parameters<'a> {
    pub(crate) alpha: Option<View<'a>>,
    pub(crate) shift: Option<View<'a>>,
    pub(crate) gamma: Option<View<'a>>,
    pub(crate) beta: Option<View<'a>>,
    /// What a quantised y is divided by; without it each row finds its own.
    pub(crate) scale: Option<View<'a>>,
}

/// What the forward of a norm saves for its backward: f32, a value each row.
pub(crate) struct Statistics {
    mean: Option<Storage>,
    rstd: Storage,
}

/// What a forward writes.
pub(crate) struct Written {
    pub(crate) y: Storage,
    /// x and the residual, if there is one.
    pub(crate) sum: Option<Storage>,
    pub(crate) statistics: Option<Statistics>,
    /// The scales of a quantised y, where the rows found them.
    pub(crate) scales: Option<Storage>,
}

/// y, the sum if there is a residual, and the statistics if `keep` and if the op has any.
pub(crate) fn forward<'a>(
    problem: &Problem,
    place: &'a Place,
    (x, residual): (View<'a>, Option<View<'a>>),
    parameters: &Parameters<'a>,
    keep: bool,
) -> Result<Written> {
    let op = problem.op();
    let mut y = place.storage(problem.y_dtype(), problem.elements())?;
    let mut sum = residual.map(|_| place.storage(problem.dtype(), problem.elements())).transpose()?;
    let rows = problem.statistics();
    let row_values = || place.storage(dyt::DType::F32, rows);
    let mut rstd = (keep && !op.is_pointwise()).then(row_values).transpose()?;
    let mut mean = (rstd.is_some() && op.has_mean()).then(row_values).transpose()?;
    let finds = problem.quant().is_some() && parameters.scale.is_none();
    let mut scales = finds.then(row_values).transpose()?;
    {
        let mut guards = Guards::default();
        let mut call = Forward::new(x, place.view_mut(&mut y, problem.elements(), &mut guards)?);
        if let (Some(residual), Some(sum)) = (residual, sum.as_mut()) {
            call = call.residual(residual).sum(place.view_mut(sum, problem.elements(), &mut guards)?);
        }
        call.alpha = parameters.alpha;
        call.shift = parameters.shift;
        call.gamma = parameters.gamma;
        call.beta = parameters.beta;
        call.scale = parameters.scale;
        call.scales = scales.as_mut().map(|scales| place.view_mut(scales, rows, &mut guards)).transpose()?;
        call.rstd = rstd.as_mut().map(|rstd| place.view_mut(rstd, rows, &mut guards)).transpose()?;
        call.mean = mean.as_mut().map(|mean| place.view_mut(mean, rows, &mut guards)).transpose()?;
        place.forward(problem, call)?;
    }
    Ok(Written { y, sum, scales, statistics: rstd.map(|rstd| Statistics { mean, rstd }) })
}

/// Which gradients are asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) dx: bool,
    pub(crate) dgamma: bool,
    /// dalpha, dshift and dbeta together, as f32, one behind the other: as many scalars, and whether there is a beta.
    pub(crate) rest: Option<(usize, bool)>,
}

/// The gradients that were asked for: dx, dgamma and the rest.
pub(crate) type Gradients = [Option<Storage>; 3];

/// Writes the gradients in one pass; none of the others is gathered.
pub(crate) fn backward<'a>(
    problem: &Problem,
    place: &'a Place,
    (dy, x): (View<'a>, View<'a>),
    parameters: &Parameters<'a>,
    statistics: Option<&'a Statistics>,
    wanted: Wanted,
) -> Result<Gradients> {
    let (params, elements, rows) = (problem.params(), problem.elements(), problem.statistics());
    let mut dx = wanted.dx.then(|| place.storage(problem.dtype(), elements)).transpose()?;
    let mut dgamma = wanted.dgamma.then(|| place.storage(dyt::DType::F32, params)).transpose()?;
    let tail = |beta: bool| if beta { params } else { 0 };
    let rest = |(scalars, beta)| place.storage(dyt::DType::F32, scalars + tail(beta));
    let mut rest = wanted.rest.map(rest).transpose()?;
    {
        let mut guards = Guards::default();
        let mut call = Backward::of(x).dy(dy);
        call.alpha = parameters.alpha;
        call.shift = parameters.shift;
        call.gamma = parameters.gamma;
        if let Some(kept) = statistics {
            call.rstd = Some(place.view(&kept.rstd, rows, &mut guards)?);
            call.mean = kept.mean.as_ref().map(|mean| place.view(mean, rows, &mut guards)).transpose()?;
        }
        call.dx = dx.as_mut().map(|dx| place.view_mut(dx, elements, &mut guards)).transpose()?;
        call.dgamma = dgamma.as_mut().map(|d| place.view_mut(d, params, &mut guards)).transpose()?;
        if let (Some(rest), Some((scalars, beta))) = (rest.as_mut(), wanted.rest) {
            let lens = [usize::from(scalars > 0), usize::from(scalars > 1), tail(beta)];
            let [dalpha, dshift, dbeta] = place.floats(rest, lens, &mut guards)?;
            call.dalpha = (scalars > 0).then_some(dalpha);
            call.dshift = (scalars > 1).then_some(dshift);
            call.dbeta = beta.then_some(dbeta);
        }
        place.backward(problem, call)?;
    }
    Ok([dx, dgamma, rest])
}
