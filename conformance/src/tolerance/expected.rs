//! What a result has to be, and the comparison itself.

use dyt::DType;

use super::overflow;

/// What a result has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    /// At most `bound` from `value`: NaN only for NaN, an infinity only for a value that can round to it, and for a
    /// bound of 0 the value itself, where the signs of zeros do not count.
    Near {
        /// The reference's value.
        value: f64,
        /// The largest error.
        bound: f64,
    },
    /// These very bits.
    Exactly(f32),
    /// From `low` to `high`, where `value` is due: of a quantised y.
    Between {
        /// The reference's value.
        value: f64,
        /// The least that is accepted.
        low: f64,
        /// The most that is accepted.
        high: f64,
    },
    /// The table promises nothing.
    Anything,
}

/// The error of an accepted result, and what it might have been.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// |result − reference|; 0 for equal infinities and for NaN where NaN is due.
    pub error: f64,
    /// The bound of that error.
    pub bound: f64,
}

impl Measured {
    /// error / bound, and 0 where both are 0.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.bound }
    }
}

impl Expected {
    /// Equal to `value`, whatever the sign of a zero.
    #[must_use]
    pub const fn equal(value: f32) -> Self {
        Self::Near { value: value as f64, bound: 0.0 }
    }

    /// NaN.
    #[must_use]
    pub const fn nan() -> Self {
        Self::Near { value: f64::NAN, bound: 0.0 }
    }

    /// The same, with `extra` on top of the bound.
    #[must_use]
    pub fn widened(self, extra: f64) -> Self {
        match self {
            Self::Near { value, bound } if value.is_finite() => Self::Near { value, bound: bound + extra },
            other => other,
        }
    }

    /// The value and the bound, for messages; NaN as the bound where nothing is promised.
    #[must_use]
    pub fn parts(&self) -> (f64, f64) {
        match *self {
            Self::Near { value, bound } => (value, bound),
            Self::Exactly(value) => (f64::from(value), 0.0),
            Self::Between { value, low, high } => (value, (high - value).max(value - low)),
            Self::Anything => (f64::NAN, f64::NAN),
        }
    }

    /// Whether every finite result would do.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match *self {
            Self::Near { value, bound } => value.is_finite() && bound.is_infinite(),
            Self::Exactly(_) | Self::Between { .. } => false,
            Self::Anything => true,
        }
    }

    /// The error of `got`, an element of type `dtype`, if it is accepted.
    #[must_use]
    pub fn accept(&self, dtype: DType, got: f32) -> Option<Measured> {
        match *self {
            Self::Near { value, bound } => near(dtype, value, bound, f64::from(got)),
            Self::Exactly(value) => (value.to_bits() == got.to_bits()).then_some(Measured::default()),
            Self::Between { value, low, high } => {
                let got = f64::from(got);
                let measured =
                    Measured { error: (got - value).abs(), bound: (high - value).max(value - low) };
                (low <= got && got <= high).then_some(measured)
            }
            Self::Anything => Some(Measured::default()),
        }
    }
}

fn near(dtype: DType, value: f64, bound: f64, got: f64) -> Option<Measured> {
    let exact = if value.is_nan() { got.is_nan() } else { got == value };
    if exact {
        let bound = if value.is_finite() { bound } else { 0.0 };
        return Some(Measured { error: 0.0, bound });
    }
    if !value.is_finite() || got.is_nan() {
        return None;
    }
    if got.is_infinite() {
        let reaches = got.signum() == value.signum() && value.abs() + bound >= overflow(dtype);
        return reaches.then_some(Measured::default());
    }
    let error = (got - value).abs();
    (error <= bound).then_some(Measured { error, bound })
}
