//! DyT and Derf.

use dyt::DType;
use dyt::reference::Place;

use super::{Term, Truth};
use crate::tolerance::{
    self, Arithmetic, Expected, LARGEST, Pointwise, Products, SMALLEST_NORMAL, SMALLEST_SUBNORMAL,
    is_subnormal,
};

/// f′ below which every accurate kernel has an exact 0, whatever it multiplies.
const NO_SLOPE: f64 = 1e-60;

impl Truth {
    fn pointwise(&self, arithmetic: Arithmetic, place: Place) -> Pointwise {
        let Place { at, y, param, .. } = place;
        Pointwise {
            alpha: self.alpha,
            gamma: self.gamma_at(param),
            beta: self.beta_at(param),
            dy: self.dy[y],
            u: self.forward.u[at],
            f: self.forward.f[at],
            slope: self.backward.slope[at],
            unfused: tolerance::unfused(
                arithmetic,
                self.case.problem.op(),
                self.x[at],
                if arithmetic.flushes { self.parts_lost[at] } else { 0.0 },
                self.alpha,
                self.shift,
            ),
        }
    }

    pub(super) fn pointwise_y(&self, arithmetic: Arithmetic, dtype: DType, place: Place) -> Expected {
        let at = self.pointwise(arithmetic, place);
        let y = self.forward.y[place.y];
        if at.u.is_infinite() {
            // Exactly ±gamma + beta.
            let terms = [at.gamma * at.f, at.beta];
            return tolerance::exact_y(arithmetic, dtype, terms);
        }
        if at.u == 0.0 && self.beta.is_none() {
            // f(±0) is ±0, and so is gamma times it.
            return Expected::Exactly(y as f32);
        }
        tolerance::pointwise_y(arithmetic, dtype, y, &at)
    }

    /// dx of the op as `dtype` stores it.
    pub(super) fn pointwise_dx(&self, arithmetic: Arithmetic, dtype: DType, place: Place) -> Expected {
        let at = self.pointwise(arithmetic, place);
        let op = self.case.problem.op();
        tolerance::pointwise_dx(arithmetic, op, dtype, self.backward.dx[place.at], &at)
    }

    /// dy·f.
    pub(super) fn pointwise_dgamma(&self, arithmetic: Arithmetic, place: Place) -> Term {
        let (dy, f) = (self.dy[place.y], self.forward.f[place.at]);
        let value = dy * f;
        // As in `tolerance::pointwise_y`.
        let steps =
            if is_subnormal(f) { 2.6 * dy.abs() } else { 0.0 } + if is_subnormal(value) { 0.5 } else { 0.0 };
        Term {
            value,
            magnitude: value.abs(),
            partial: value.abs(),
            underflow: if steps > 0.0 && steps.is_finite() { steps * SMALLEST_SUBNORMAL } else { 0.0 },
            lost: self.lost(arithmetic, place, dy * self.backward.slope[place.at]),
            // An f that may be 0 makes NaN of an infinity.
            open: dy.is_infinite() && is_subnormal(f),
        }
    }

    pub(super) fn pointwise_dalpha(&self, arithmetic: Arithmetic) -> Expected {
        self.single(arithmetic, 0, |truth, arithmetic, place| {
            truth.slope_term(arithmetic, place, truth.x[place.at])
        })
    }

    pub(super) fn pointwise_dshift(&self, arithmetic: Arithmetic) -> Expected {
        self.single(arithmetic, 1, |truth, arithmetic, place| truth.slope_term(arithmetic, place, 1.0))
    }

    /// The cost of what u errs by beyond its one rounding, for a term that changes by `rate` with it.
    fn lost(&self, arithmetic: Arithmetic, place: Place, rate: f64) -> f64 {
        let cost = rate.abs() * self.pointwise(arithmetic, place).unfused;
        if cost.is_finite() { cost } else { 0.0 }
    }

    /// dy·gamma·f′·`last`, where `last` is x of dalpha and 1 of dshift.
    fn slope_term(&self, arithmetic: Arithmetic, place: Place, last: f64) -> Term {
        let (dy, gamma, slope) =
            (self.dy[place.y], self.gamma_at(place.param), self.backward.slope[place.at]);
        let value = self.backward.h[place.at] * slope * last;
        let steep = tolerance::steepness(self.case.problem.op(), self.forward.u[place.at]);
        if dy.is_infinite() {
            return Term { value, open: slope < SMALLEST_NORMAL && !value.is_nan(), ..Term::default() };
        }
        if value.is_nan() || dy == 0.0 || gamma == 0.0 || last == 0.0 {
            return Term { value, ..Term::default() };
        }
        if slope < NO_SLOPE {
            return Term::default();
        }
        let products = Products::of(&[dy, gamma, slope, last]);
        let partials = [dy * gamma, dy * slope, dy * gamma * slope, dy * slope * last, value];
        let partial = partials.into_iter().fold(0.0_f64, |largest, partial| largest.max(partial.abs()));
        let small = products.smallest < SMALLEST_NORMAL || slope < SMALLEST_NORMAL;
        // The slope itself errs by a step where it is subnormal.
        let underflow = products.underflow + SMALLEST_SUBNORMAL * (dy * gamma * last).abs();
        Term {
            value,
            magnitude: (1.0 + steep) * value.abs(),
            partial,
            underflow: if small { underflow } else { 0.0 },
            // f″ = −2u·f′ of erf; of tanh it is −2f·f′, and less than that for |u|.
            lost: self.lost(arithmetic, place, 2.0 * self.forward.u[place.at] * value),
            open: partial > LARGEST,
        }
    }
}
