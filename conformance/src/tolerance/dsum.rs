//! dx where dsum joins it.

use dyt::DType;

use super::{Arithmetic, Expected, ULP, overflow, rounding};

/// dx + dsum, from what the op's part has to be in f32: added in f32 and rounded once to storage.
#[must_use]
pub fn with_dsum(arithmetic: Arithmetic, dtype: DType, dx: Expected, dsum: f64) -> Expected {
    let (value, bound) = match dx {
        Expected::Near { value, bound } => (value, bound),
        Expected::Exactly(value) => (f64::from(value), 0.0),
        Expected::Anything if dsum.is_nan() => return Expected::nan(),
        Expected::Between { .. } | Expected::Anything => return Expected::Anything,
    };
    // The op's part may be infinite before dsum brings it back.
    if value.is_finite() && value.abs() + bound >= overflow(DType::F32) && !dsum.is_nan() {
        return Expected::Anything;
    }
    let sum = value + dsum;
    if !sum.is_finite() {
        return Expected::Near { value: sum, bound: 0.0 };
    }
    let single = bound + arithmetic.lost(dsum) + ULP / 2.0 * (sum.abs() + bound);
    Expected::Near { value: sum, bound: arithmetic.or_zero(sum, single) + rounding(dtype, sum) }
}
