//! LayerNorm and RMSNorm.

use dyt::DType;
use dyt::reference::{Place, row};

use super::{Term, Truth};
use crate::tolerance::{self, Arithmetic, Expected, LARGEST, LARGEST_OFFSET, NormY, SMALLEST_SUBNORMAL};

/// What x̂ may lose to a flushed value of x, beside the term for it in y, before the statistics of the row are others.
const LARGEST_LOSS: f64 = 1e-7;

/// What can be said of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It holds NaN.
    NotANumber,
    /// It holds an infinity, or the mean is too large beside the deviations: nothing is promised.
    Open,
    /// All values are equal, and LayerNorm subtracts their mean: x̂ is exactly 0.
    Equal,
    /// The bounds hold.
    Ordinary,
}

/// A row, and what its bounds are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    kind: Kind,
    largest_x: f64,
    /// The most that a value loses where a backend may take subnormals for 0.
    largest_lost: f64,
    largest_h: f64,
    /// Σ|h|·(1+|x̂|), which has to be finite in f32.
    sum_h: f64,
}

impl Truth {
    pub(super) fn row(&self, statistic: usize) -> Row {
        let places = row(&self.case.problem, statistic);
        let largest = |values: &[f64]| places.clone().fold(0.0_f64, |m, at| m.max(values[at].abs()));
        let sum_h = places.clone().map(|at| self.backward.h[at].abs() * (1.0 + self.forward.f[at].abs()));
        Row {
            kind: self.kind(statistic),
            largest_x: largest(&self.x),
            largest_lost: places
                .clone()
                .map(|at| {
                    let x = self.x[at].abs();
                    self.parts_lost[at] + if tolerance::is_subnormal(x) { x } else { 0.0 }
                })
                .fold(0.0, f64::max),
            largest_h: largest(&self.backward.h),
            sum_h: sum_h.sum(),
        }
    }

    fn kind(&self, statistic: usize) -> Kind {
        let problem = &self.case.problem;
        let mut x = row(problem, statistic).map(|at| self.x[at]);
        if x.clone().any(f64::is_nan) {
            return Kind::NotANumber;
        }
        let largest = x.clone().fold(0.0_f64, |m, x| m.max(x.abs()));
        let first = x.next().unwrap_or(0.0);
        let equal = problem.op().has_mean() && x.all(|x| x == first);
        if equal && largest.is_finite() && problem.eps() > 0.0 {
            return Kind::Equal;
        }
        let rstd = self.forward.rstd[statistic];
        // NaN where an eps of 0 is all that a row of equal values is divided by.
        let offset = self.forward.mean[statistic].abs() * rstd;
        let holds = largest.is_finite() && rstd.is_finite() && offset <= LARGEST_OFFSET;
        if holds { Kind::Ordinary } else { Kind::Open }
    }

    /// The kind of a row on a backend: where a subnormal may count as 0, one that matters leaves the row open.
    fn kind_on(&self, arithmetic: Arithmetic, statistic: usize) -> Kind {
        let row = &self.rows[statistic];
        let lost = if arithmetic.flushes { row.largest_lost } else { 0.0 } * self.forward.rstd[statistic];
        if row.kind == Kind::Ordinary && lost > LARGEST_LOSS { Kind::Open } else { row.kind }
    }

    pub(super) fn norm_y(&self, arithmetic: Arithmetic, place: Place) -> Expected {
        let Place { at, column, statistic } = place;
        let problem = &self.case.problem;
        match self.kind_on(arithmetic, statistic) {
            Kind::NotANumber => Expected::nan(),
            Kind::Open => Expected::Anything,
            Kind::Equal => tolerance::exact_y(arithmetic, problem.dtype(), [0.0, self.beta_at(column)]),
            Kind::Ordinary => {
                let (gamma, beta) = (self.gamma_at(column), self.beta_at(column));
                let lost = self.forward.rstd[statistic] * self.lost_at(arithmetic, at);
                let result = NormY { y: self.forward.y[at], x_hat: self.forward.f[at], gamma, beta, lost };
                tolerance::norm_y(arithmetic, problem.op(), problem.dtype(), &result)
            }
        }
    }

    pub(super) fn norm_mean(&self, arithmetic: Arithmetic, statistic: usize) -> Expected {
        let row = &self.rows[statistic];
        match self.kind_on(arithmetic, statistic) {
            Kind::NotANumber => Expected::nan(),
            Kind::Open => Expected::Anything,
            Kind::Equal | Kind::Ordinary => {
                tolerance::mean(arithmetic, self.forward.mean[statistic], row.largest_x)
            }
        }
    }

    pub(super) fn norm_rstd(&self, arithmetic: Arithmetic, statistic: usize) -> Expected {
        match self.kind_on(arithmetic, statistic) {
            Kind::NotANumber => Expected::nan(),
            Kind::Open => Expected::Anything,
            Kind::Equal | Kind::Ordinary => tolerance::rstd(arithmetic, self.forward.rstd[statistic]),
        }
    }

    /// dx of the op as `dtype` stores it.
    pub(super) fn norm_dx(&self, arithmetic: Arithmetic, dtype: DType, place: Place) -> Expected {
        let Place { at, statistic, .. } = place;
        let row = &self.rows[statistic];
        match self.kind_on(arithmetic, statistic) {
            Kind::NotANumber => Expected::nan(),
            Kind::Open => Expected::Anything,
            Kind::Equal | Kind::Ordinary if row.sum_h.is_nan() => Expected::nan(),
            Kind::Equal | Kind::Ordinary if row.sum_h > LARGEST => Expected::Anything,
            Kind::Equal | Kind::Ordinary => {
                let (value, rstd) = (self.backward.dx[at], self.forward.rstd[statistic]);
                tolerance::norm_dx(arithmetic, dtype, value, rstd, row.largest_h, self.forward.f[at])
            }
        }
    }

    /// dy·x̂.
    pub(super) fn norm_dgamma(&self, arithmetic: Arithmetic, place: Place) -> Term {
        let Place { at, statistic, .. } = place;
        let dy = self.dy[at];
        let x_hat = match self.kind_on(arithmetic, statistic) {
            Kind::NotANumber => f64::NAN,
            Kind::Open => return Term { value: dy, open: true, ..Term::default() },
            Kind::Equal => 0.0,
            Kind::Ordinary => self.forward.f[at],
        };
        let value = dy * x_hat;
        let magnitude = dy.abs() * (1.0 + x_hat.abs());
        Term {
            value,
            magnitude,
            partial: magnitude,
            underflow: if magnitude < 2.0_f64.powi(-100) && dy != 0.0 {
                SMALLEST_SUBNORMAL / 2.0
            } else {
                0.0
            },
            // The sign of an x̂ within its error of 0 is open.
            open: dy.is_infinite() && x_hat.abs() < 1e-5 && x_hat != 0.0,
            lost: 0.0,
        }
    }
}
