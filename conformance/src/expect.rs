//! What each output of a case has to be: the reference, and from its intermediate values the bounds.

mod norm;
mod pointwise;
mod quant;

use dyt::reference::{self, Place, places};
use dyt::{DType, Result};

use crate::cases::Case;
use crate::inputs::Inputs;
use crate::report::Output;
use crate::tolerance::{self, Arithmetic, Expected, LARGEST, SMALLEST_NORMAL};

/// The f64 results of a case, and the inputs widened to f64.
#[derive(Debug)]
pub(crate) struct Truth {
    case: Case,
    /// What the op is applied to: x, or x + residual as it is stored.
    x: Vec<f64>,
    /// What is lost of the sum where a subnormal x or residual, or their sum in f32, is taken for 0; nothing without a residual.
    parts_lost: Vec<f64>,
    dsum: Option<Vec<f64>>,
    dy: Vec<f64>,
    gamma: Option<Vec<f64>>,
    beta: Option<Vec<f64>>,
    alpha: f64,
    shift: f64,
    /// What dalpha and dshift, dgamma and dbeta are added to; zeros if they are not.
    prior_sums: [f64; 2],
    prior_columns: [Vec<f64>; 2],
    forward: reference::Forward,
    backward: reference::Backward,
    /// The norms: what holds of each row.
    rows: Vec<norm::Row>,
    /// The scale of a quantised y, where rows have none of their own.
    given_scale: f32,
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// The subnormal ones of the two terms of each sum, and an ulp of the sum, which may then be rounded to its neighbour.
fn parts_lost(dtype: DType, x: &[f64], residual: &[f64]) -> Vec<f64> {
    let flushed = |value: f64| if tolerance::is_subnormal(value) { value.abs() } else { 0.0 };
    let lost = |(x, residual): (&f64, &f64)| {
        let (terms, sum) = (flushed(*x) + flushed(*residual), (x + residual).abs());
        // A sum that is subnormal in f32, or becomes so without its terms, is lost before a type of 16 bits would round it up.
        let lost = if sum - terms < SMALLEST_NORMAL { terms.max(sum) } else { terms };
        if lost > 0.0 { lost + tolerance::storage_ulp(dtype, x + residual) } else { 0.0 }
    };
    x.iter().zip(residual).map(lost).collect()
}

impl Truth {
    pub(crate) fn new(case: &Case, inputs: &Inputs) -> Result<Self> {
        let problem = &case.problem;
        let (x, dy) = (widen(&inputs.x), widen(&inputs.dy));
        let (gamma, beta) = (inputs.gamma.as_deref().map(widen), inputs.beta.as_deref().map(widen));
        let (alpha, shift) = (f64::from(inputs.alpha), f64::from(inputs.shift));
        let read = reference::Inputs {
            alpha,
            shift,
            gamma: gamma.as_deref(),
            beta: beta.as_deref(),
            ..reference::Inputs::new(&x)
        };
        let residual = inputs.residual.as_deref().map(widen);
        let added = reference::Inputs { residual: residual.as_deref(), ..read };
        let forward = reference::forward(problem, &added)?;
        // Without dsum, which joins with a bound of its own.
        let backward = reference::backward(problem, &added, &dy)?;
        let parts_lost = match &residual {
            Some(residual) => parts_lost(problem.dtype(), &x, residual),
            None => vec![0.0; x.len()],
        };
        let prior = |value: &f32| if problem.accumulate() { f64::from(*value) } else { 0.0 };
        let mut truth = Self {
            case: *case,
            alpha,
            shift,
            prior_sums: inputs.prior_sums.each_ref().map(prior),
            prior_columns: inputs.prior_columns.each_ref().map(|v| v.iter().map(prior).collect()),
            x: if residual.is_some() { forward.sum.clone() } else { x },
            parts_lost,
            dsum: inputs.dsum.as_deref().map(widen),
            dy,
            gamma,
            beta,
            forward,
            backward,
            rows: Vec::new(),
            given_scale: 1.0,
        };
        if !problem.op().is_pointwise() {
            truth.rows = (0..problem.statistics()).map(|statistic| truth.row(statistic)).collect();
        }
        truth.given_scale = truth.drawn_scale();
        Ok(truth)
    }

    /// What the op is applied to, as it is stored.
    pub(crate) fn input(&self) -> Vec<f32> {
        self.x.iter().map(|x| *x as f32).collect()
    }

    /// What every element of `output` has to be, with its index.
    pub(crate) fn of(&self, arithmetic: Arithmetic, output: Output) -> Vec<(usize, Expected)> {
        let op = self.case.problem.op();
        let statistics = 0..self.case.problem.statistics();
        match output {
            Output::Y if self.case.quantised.is_some() => {
                // Once for each row, and not for each of its elements.
                let scales: Vec<_> = statistics.map(|statistic| self.found_scale(statistic)).collect();
                self.quantised(arithmetic, &|statistic| scales[statistic])
            }
            Output::Scales => statistics.map(|i| (i, self.scale(arithmetic, i))).collect(),
            Output::Y | Output::Sum | Output::Dx => places(&self.case.problem)
                .map(|place| (output.index(place), self.element(arithmetic, output, place)))
                .collect(),
            Output::Mean => statistics.map(|i| (i, self.norm_mean(arithmetic, i))).collect(),
            Output::Rstd => statistics.map(|i| (i, self.norm_rstd(arithmetic, i))).collect(),
            Output::Dalpha => vec![(0, self.pointwise_dalpha(arithmetic))],
            Output::Dshift => vec![(0, self.pointwise_dshift(arithmetic))],
            Output::Dgamma if op.is_pointwise() => self.columns(arithmetic, 0, Self::pointwise_dgamma),
            Output::Dgamma => self.columns(arithmetic, 0, Self::norm_dgamma),
            Output::Dbeta => self.columns(arithmetic, 1, Self::dbeta),
        }
    }

    fn element(&self, arithmetic: Arithmetic, output: Output, place: Place) -> Expected {
        let (problem, at) = (&self.case.problem, place.at);
        let pointwise = problem.op().is_pointwise();
        match output {
            // Added in f32 and rounded to the storage type: there is one result.
            Output::Sum => Expected::Near { value: self.x[at], bound: self.lost_at(arithmetic, at) },
            Output::Dx => {
                // What dsum joins is not rounded yet.
                let dtype = if self.dsum.is_some() { DType::F32 } else { problem.dtype() };
                let dx = if pointwise {
                    self.pointwise_dx(arithmetic, dtype, place)
                } else {
                    self.norm_dx(arithmetic, dtype, place)
                };
                let joined =
                    |dsum: &Vec<f64>| tolerance::with_dsum(arithmetic, problem.dtype(), dx, dsum[at]);
                self.dsum.as_ref().map_or(dx, joined)
            }
            _ => self.y(arithmetic, problem.dtype(), place),
        }
    }

    /// y as `dtype` stores it.
    fn y(&self, arithmetic: Arithmetic, dtype: DType, place: Place) -> Expected {
        match self.case.problem.op().is_pointwise() {
            true => self.pointwise_y(arithmetic, dtype, place),
            false => self.norm_y(arithmetic, dtype, place),
        }
    }

    /// What is lost of an element of the op's input where subnormals may be taken for 0.
    fn lost_at(&self, arithmetic: Arithmetic, at: usize) -> f64 {
        let parts = if arithmetic.flushes { self.parts_lost[at] } else { 0.0 };
        arithmetic.lost(self.x[at]) + parts
    }

    /// What f(u) or x̂ is multiplied by at index `param` of gamma: gamma with its offset, which f32 has rounded, or 1.
    fn gamma_at(&self, param: usize) -> f64 {
        let offset = f64::from(self.case.problem.gamma_offset());
        self.gamma.as_ref().map_or(1.0, |gamma| f64::from((gamma[param] + offset) as f32))
    }

    fn beta_at(&self, param: usize) -> f64 {
        self.beta.as_ref().map_or(0.0, |beta| beta[param])
    }

    /// A gradient of a parameter along the columns: the sums of the terms of each, added to what was there.
    fn columns(
        &self,
        arithmetic: Arithmetic,
        which: usize,
        term: fn(&Self, Arithmetic, Place) -> Term,
    ) -> Vec<(usize, Expected)> {
        let mut sums = vec![Sum::default(); self.case.problem.params()];
        for place in places(&self.case.problem) {
            sums[place.param].add(term(self, arithmetic, place));
        }
        let priors = &self.prior_columns[which];
        sums.iter().zip(priors).map(|(sum, &prior)| sum.expected(arithmetic, prior)).enumerate().collect()
    }

    /// A gradient of one parameter.
    fn single(
        &self,
        arithmetic: Arithmetic,
        which: usize,
        term: fn(&Self, Arithmetic, Place) -> Term,
    ) -> Expected {
        let mut sum = Sum::default();
        for place in places(&self.case.problem) {
            sum.add(term(self, arithmetic, place));
        }
        sum.expected(arithmetic, self.prior_sums[which])
    }

    fn dbeta(&self, arithmetic: Arithmetic, place: Place) -> Term {
        let value = self.dy[place.y];
        let lost = arithmetic.lost(value);
        Term { value, magnitude: value.abs(), partial: value.abs(), lost, ..Term::default() }
    }
}

/// One term of a gradient of a parameter.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    value: f64,
    /// What the table weighs.
    magnitude: f64,
    /// The largest of the term's partial products, which have a finite sum or nothing is promised.
    partial: f64,
    /// What underflow of the partial products can cost.
    underflow: f64,
    /// What the backend's arithmetic may take besides: an error of u beyond its one rounding, from
    /// [`tolerance::unfused`], or a subnormal that is flushed.
    lost: f64,
    /// The table promises nothing of this term.
    open: bool,
}

/// The sum of terms.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    value: f64,
    magnitude: f64,
    partial: f64,
    underflow: f64,
    lost: f64,
    open: bool,
    nan: bool,
}

impl Sum {
    fn add(&mut self, term: Term) {
        self.value += term.value;
        self.underflow += term.underflow;
        self.lost += term.lost;
        self.open |= term.open;
        self.nan |= term.value.is_nan() && !term.open;
        if term.value.is_finite() {
            self.magnitude += term.magnitude;
            self.partial += term.partial;
        }
    }

    /// What was there counts as one more term.
    fn expected(&self, arithmetic: Arithmetic, prior: f64) -> Expected {
        if self.nan {
            Expected::nan()
        } else if self.open || self.partial > LARGEST {
            Expected::Anything
        } else if self.magnitude == 0.0 && self.underflow == 0.0 && self.value == 0.0 {
            Expected::Near { value: prior, bound: 0.0 }
        } else {
            let magnitude = self.magnitude + prior.abs();
            tolerance::sum(arithmetic, self.value + prior, magnitude, self.underflow).widened(self.lost)
        }
    }
}
