//! Quantised y, and the scales of its rows.
//!
//! y is v / s rounded to nearest even, and v may be off by the bound of an f32 y. Rounding is monotone, so that y lies between
//! what the two ends of v's interval are rounded to: the value itself, or its neighbour where v lies within its bound of a tie.
//! The quotient is rounded once more before, which moves it by half an ulp of f32, or by the 2.5 ulp that WGSL allows a division.

use dyt::Quant;
use dyt::reference::quantised;

use super::{Arithmetic, Expected, LARGEST, SMALLEST_NORMAL, SMALLEST_SUBNORMAL, ULP};

/// y, where v has to be `v` and the row is divided by `s`.
#[must_use]
pub fn quantised_y(arithmetic: Arithmetic, quant: Quant, v: Expected, s: f64) -> Expected {
    let (value, bound) = match v {
        Expected::Near { value, bound } => (value, bound),
        Expected::Exactly(value) => (f64::from(value), 0.0),
        Expected::Between { .. } | Expected::Anything => return Expected::Anything,
    };
    let may_overflow = value.is_finite() && value.abs() + bound > LARGEST;
    if bound.is_infinite() || may_overflow && s.is_infinite() {
        return Expected::Anything;
    }
    let near = quantised(quant, value, s);
    if near.is_nan() || value.is_nan() {
        return Expected::Near { value: near, bound: 0.0 };
    }
    let off = arithmetic.division * ULP;
    let end = |v: f64, widen: f64| {
        // A quotient that may be flushed is far below the least y.
        quantised(quant, v + v.abs() * widen, s)
    };
    let ends = [end(value - bound, -off), end(value + bound, off)];
    Expected::Between { value: near, low: ends[0].min(ends[1]), high: ends[0].max(ends[1]) }
}

/// A |v| below this may be 0: a few subnormal steps, and where they are flushed what is left of a product that one of its
/// factors leaves.
const VANISHES: f64 = 16.0 * SMALLEST_SUBNORMAL;
const VANISHES_FLUSHED: f64 = SMALLEST_NORMAL / ULP;

/// The scale of a row whose v have to be `row`.
#[must_use]
pub fn scale(arithmetic: Arithmetic, quant: Quant, row: impl Iterator<Item = Expected>) -> Expected {
    // The least and the most that the largest |v| may be.
    let (mut least, mut most, mut largest) = (0.0_f64, 0.0_f64, 0.0_f64);
    for v in row {
        let (value, bound) = match v {
            Expected::Near { value, bound } => (value.abs(), bound),
            Expected::Exactly(value) => (f64::from(value).abs(), 0.0),
            Expected::Between { .. } | Expected::Anything => return Expected::Anything,
        };
        if value.is_nan() {
            continue;
        }
        least = least.max(value - bound);
        most = most.max(value + bound);
        largest = largest.max(value);
    }
    let infinite = largest.is_infinite();
    if !infinite && most > LARGEST {
        return Expected::Anything;
    }
    // A largest |v| of 0 makes a scale of 1, and the least one above 0 the least scale.
    let vanishes = if arithmetic.flushes { VANISHES_FLUSHED } else { VANISHES };
    if least <= 0.0 && most > 0.0 && largest < vanishes {
        return Expected::Anything;
    }
    let of = |most: f64| dyt::reference::scale(quant, most.max(SMALLEST_SUBNORMAL));
    if infinite || most == 0.0 {
        return Expected::Near { value: dyt::reference::scale(quant, largest), bound: 0.0 };
    }
    let value = of(largest);
    let off = arithmetic.division * ULP * value;
    let flushed = if arithmetic.flushes { SMALLEST_NORMAL } else { 0.0 };
    Expected::Near { value, bound: (of(most) - value).max(value - of(least)) + off + flushed }
}
