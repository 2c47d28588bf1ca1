//! Quantised y.

use dyt::reference::{self, Place, places, row_places};
use dyt::{DType, Quant};

use super::Truth;
use crate::data::Random;
use crate::tolerance::{self, Arithmetic, Expected};

/// Factors on the scale with which the largest |y| just fits its type: some values are cut off, and some are coarse.
const FACTORS: [f64; 6] = [1.0, 1.0, 0.25, 3.7, 40.0, -1.0];

impl Truth {
    fn quant(&self) -> Quant {
        self.case.quantised.map_or(Quant::I8, |quantised| quantised.quant)
    }

    /// The scale that a call gives.
    pub(crate) fn given_scale(&self) -> f32 {
        self.given_scale
    }

    /// A scale of about the size that the values ask for, which every backend can divide by.
    pub(super) fn drawn_scale(&self) -> f32 {
        let factor = FACTORS[Random::new(self.case.seed).below(FACTORS.len())];
        let finite = self.forward.y.iter().map(|y| y.abs()).filter(|y| y.is_finite());
        let scale = reference::scale(self.quant(), finite.fold(0.0, f64::max));
        (scale.clamp(1e-30, 1e30) * factor) as f32
    }

    /// The scale of the row of that statistic, as the reference has it.
    pub(super) fn found_scale(&self, statistic: usize) -> f32 {
        if !self.case.quantised.is_some_and(|quantised| quantised.by_row) {
            return self.given_scale;
        }
        let sizes = row_places(&self.case.problem, statistic).map(|place| self.forward.y[place.y].abs());
        let most = sizes.filter(|y| !y.is_nan()).fold(0.0, f64::max);
        reference::scale(self.quant(), most) as f32
    }

    /// What the scale of a row has to be.
    pub(super) fn scale(&self, arithmetic: Arithmetic, statistic: usize) -> Expected {
        let problem = &self.case.problem;
        let v = row_places(problem, statistic).map(|place| self.y(arithmetic, DType::F32, place));
        tolerance::scale(arithmetic, self.quant(), v)
    }

    /// What every element of y has to be, where the row of a statistic is divided by `scale` of it.
    pub(crate) fn quantised(
        &self,
        arithmetic: Arithmetic,
        scale: &dyn Fn(usize) -> f32,
    ) -> Vec<(usize, Expected)> {
        let of = |place: Place| {
            let v = self.y(arithmetic, DType::F32, place);
            let s = f64::from(scale(place.statistic));
            (place.y, tolerance::quantised_y(arithmetic, self.quant(), v, s))
        };
        places(&self.case.problem).map(of).collect()
    }
}
