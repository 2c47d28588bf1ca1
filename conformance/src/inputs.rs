//! The inputs of a case: drawn in f64, rounded once to the type in which they are stored.

use dyt::{DType, Op, Problem};

use crate::cases::Case;
use crate::data::{Random, Values, round_to};
use crate::report::Output;

/// What a case reads, each value exactly as it is stored. Tensors have `Problem::span` elements, dy `Problem::y_span`.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub(crate) x: Vec<f32>,
    pub(crate) residual: Option<Vec<f32>>,
    pub(crate) dy: Vec<f32>,
    pub(crate) dsum: Option<Vec<f32>>,
    pub(crate) alpha: f32,
    pub(crate) shift: f32,
    pub(crate) gamma: Option<Vec<f32>>,
    pub(crate) beta: Option<Vec<f32>>,
    /// What dalpha and dshift hold before they are added to.
    pub(crate) prior_sums: [f32; 2],
    /// What dgamma and dbeta hold before they are added to.
    pub(crate) prior_columns: [Vec<f32>; 2],
}

impl Inputs {
    pub(crate) fn draw(case: &Case) -> Self {
        let problem = &case.problem;
        let mut random = Random::new(case.seed);
        let mut draw = Draw::new(case, &mut random);
        let mut x = draw.x(problem);
        let dy = draw.gradient(problem, Output::Y);
        let params = problem.params();
        let gamma = case.gamma.then(|| draw.params(params, Draw::gamma));
        let beta = case.beta.then(|| draw.params(params, Draw::beta));
        let residual = case.residual.then(|| draw.residual(problem, &mut x));
        let dsum = case.residual.then(|| draw.gradient(problem, Output::Dx));
        let mut prior = |n: usize| (0..n).map(|_| draw.random.normal() as f32).collect::<Vec<_>>();
        Self {
            prior_sums: [prior(1)[0], prior(1)[0]],
            prior_columns: [prior(params), prior(params)],
            x,
            residual,
            dy,
            dsum,
            alpha: draw.alpha,
            shift: draw.shift,
            gamma,
            beta,
        }
    }
}

/// Columns that lie apart in [`Values::Displaced`] at most: those that the CPU guesses the mean of a row from.
const DISPLACED: usize = 32;

/// The distributions of one tensor.
struct Draw<'a> {
    random: &'a mut Random,
    values: Values,
    op: Op,
    dtype: DType,
    param_dtype: DType,
    alpha: f32,
    shift: f32,
    /// LargeOffset of Derf: the offset of every element, which alpha times undoes `shift`.
    offset: Option<f64>,
    /// EqualRows: the value of the whole tensor.
    constant: Option<f64>,
}

/// The exponents of ten that a type's values reach.
struct Reach {
    low: f64,
    high: f64,
    subnormal: f64,
}

const fn reach(dtype: DType) -> Reach {
    match dtype {
        DType::F32 | DType::Bf16 | DType::Quant(_) => {
            Reach { low: -37.9, high: 38.5, subnormal: f32::MIN_POSITIVE as f64 }
        }
        DType::F16 => Reach { low: -4.2, high: 4.8, subnormal: 1.0 / 16_384.0 },
    }
}

impl<'a> Draw<'a> {
    fn new(case: &Case, random: &'a mut Random) -> Self {
        let problem = &case.problem;
        let mut alpha = random.between(0.2, 1.2) * if random.below(4) == 0 { -1.0 } else { 1.0 };
        if matches!(case.values, Values::Huge | Values::HugeNormal) && random.below(2) == 0 {
            // Such that some rows do not saturate.
            alpha *= 10.0_f64.powf(-random.between(0.0, reach(problem.dtype()).high / 2.0));
        }
        let mut draw = Self {
            values: case.values,
            op: problem.op(),
            dtype: problem.dtype(),
            param_dtype: problem.param_dtype(),
            alpha: alpha as f32,
            shift: random.between(-1.0, 1.0) as f32,
            offset: None,
            constant: (random.below(2) == 0).then(|| random.power(-3.0, 4.0)),
            random,
        };
        if case.values == Values::LargeOffset && draw.op == Op::Derf {
            let offset = draw.random.power(0.0, 3.7);
            draw.offset = Some(offset);
            draw.shift = (-f64::from(draw.alpha) * offset) as f32;
        }
        draw
    }

    fn x(&mut self, problem: &Problem) -> Vec<f32> {
        let mut x = vec![f32::NAN; problem.span()];
        let displaced =
            if self.values == Values::Displaced { DISPLACED.min(problem.cols().div_ceil(4)) } else { 0 };
        for statistic in 0..problem.statistics() {
            let scale = self.row_scale();
            let offset = self.row_offset(problem.cols());
            for (column, at) in dyt::reference::row(problem, statistic).enumerate() {
                let value = self.x_value(scale, offset) + if column < displaced { scale } else { 0.0 };
                x[at] = round_to(self.dtype, value);
            }
            let spoilt = self.values == Values::NonFinite && self.random.below(3) == 0;
            for _ in 0..if spoilt { problem.cols().div_ceil(50) } else { 0 } {
                let column = self.random.below(problem.cols());
                let value = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][self.random.below(3)];
                if let Some(at) = dyt::reference::row(problem, statistic).nth(column) {
                    x[at] = value;
                }
            }
        }
        x
    }

    /// A part of x, which the rest and the residual then add up to. One part for each row, so that equal values stay equal.
    fn residual(&mut self, problem: &Problem, x: &mut [f32]) -> Vec<f32> {
        let mut residual = vec![f32::NAN; x.len()];
        for statistic in 0..problem.statistics() {
            let part = self.random.uniform();
            for at in dyt::reference::row(problem, statistic) {
                let whole = f64::from(x[at]);
                // Of an infinity the whole, or the other infinity, which makes a NaN.
                let opposite = self.random.below(16) == 0;
                let own = match whole.is_finite() {
                    true => part * whole,
                    false if opposite => -whole,
                    false => part,
                };
                residual[at] = round_to(self.dtype, own);
                x[at] = round_to(self.dtype, if whole.is_finite() { whole - own } else { whole });
            }
        }
        residual
    }

    /// What the values of one row share.
    fn row_scale(&mut self) -> f64 {
        let reach = reach(self.dtype);
        match self.values {
            Values::Huge => 10.0_f64.powf(self.random.between(reach.high / 3.0, reach.high)),
            // Up to 20 standard deviations from 0, all of them finite.
            Values::HugeNormal => 10.0_f64.powf(self.random.between(reach.high / 3.0, reach.high - 1.5)),
            // Some of them subnormal, and in f32 and bf16 some rows with an rstd beyond f32.
            Values::TinyNormal => 10.0_f64.powf(self.random.between(reach.low - 1.5, reach.low / 2.0)),
            Values::Tiny => 10.0_f64.powf(self.random.between(reach.low, reach.low / 2.0)),
            Values::EqualRows => self.constant.unwrap_or_else(|| self.random.power(-3.0, 4.0)),
            Values::LargeOffset => self.offset.unwrap_or_else(|| self.random.power(0.0, 3.7)),
            Values::Displaced => self.random.power(-1.5, 3.0),
            Values::Normal | Values::Subnormal | Values::Saturated | Values::NonFinite => 1.0,
        }
    }

    /// The mean of a row in standard deviations. Where a few values lie about one, it must not be far off.
    fn row_offset(&mut self, cols: usize) -> f64 {
        match self.values {
            Values::HugeNormal | Values::TinyNormal if cols >= 16 && self.random.below(2) == 0 => {
                self.random.power(-1.0, 1.0)
            }
            _ => 0.0,
        }
    }

    fn x_value(&mut self, scale: f64, offset: f64) -> f64 {
        match self.values {
            Values::Normal if self.random.below(64) == 0 => 0.0 * self.random.sign(),
            Values::Normal | Values::NonFinite | Values::Displaced => self.random.normal(),
            Values::HugeNormal | Values::TinyNormal => scale * (offset + self.random.normal()),
            Values::Huge | Values::Tiny => scale * self.random.between(0.1, 1.0) * self.random.sign(),
            Values::Subnormal => reach(self.dtype).subnormal * self.random.between(-1.0, 1.0),
            Values::EqualRows => scale,
            Values::LargeOffset => scale + self.random.normal(),
            Values::Saturated => {
                let u = 10.0_f64.powf(self.random.between(0.3, 2.2));
                self.random.sign() * u / f64::from(self.alpha)
            }
        }
    }

    /// dy, which has the layout of y, or dsum, which has that of dx.
    fn gradient(&mut self, problem: &Problem, layout: Output) -> Vec<f32> {
        let span = if layout == Output::Y { problem.y_span() } else { problem.span() };
        let mut dy = vec![f32::NAN; span];
        let reach = reach(self.dtype);
        let spoils = self.values == Values::NonFinite && self.random.below(2) == 0;
        for place in dyt::reference::places(problem) {
            let value = match self.values {
                Values::Huge => self.random.power(0.0, reach.high.min(24.0) / 3.0),
                Values::Tiny | Values::TinyNormal => self.random.power(reach.low / 2.0, reach.low / 4.0),
                Values::Subnormal => reach.subnormal * self.random.between(-1.0, 1.0),
                Values::LargeOffset => 5.0 + self.random.normal(),
                Values::NonFinite if spoils && self.random.below(97) == 0 => {
                    [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][self.random.below(3)]
                }
                _ if self.random.below(64) == 0 => 0.0,
                _ => self.random.normal(),
            };
            dy[layout.index(place)] = round_to(self.dtype, value);
        }
        dy
    }

    fn params(&mut self, n: usize, value: fn(&mut Self) -> f64) -> Vec<f32> {
        let dtype = self.param_dtype;
        (0..n).map(|_| round_to(dtype, value(self))).collect()
    }

    fn gamma(&mut self) -> f64 {
        match self.values {
            // In 16-bit storage y overflows now and then.
            Values::Huge => self.random.power(0.0, reach(self.param_dtype).high.min(8.0)),
            Values::Tiny => self.random.power(reach(self.param_dtype).low / 4.0, 0.0),
            _ if self.random.below(32) == 0 => 0.0,
            _ => 1.0 + 0.5 * self.random.normal(),
        }
    }

    fn beta(&mut self) -> f64 {
        let reach = reach(self.param_dtype);
        match self.values {
            Values::Huge => self.random.power(0.0, reach.high.min(8.0)),
            Values::Tiny => self.random.power(reach.low, reach.low / 2.0),
            Values::Subnormal => reach.subnormal * self.random.between(-1.0, 1.0),
            _ => self.random.normal(),
        }
    }
}
