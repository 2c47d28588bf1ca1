//! Quantised y.

use float8::{F8E4M3, F8E5M2};

use crate::Quant;

/// y for v and the scale s: v / s, rounded to nearest even and saturated, as f64. NaN stays NaN, or gives 0 in i8.
#[must_use]
pub fn quantised(quant: Quant, v: f64, s: f64) -> f64 {
    let (q, largest) = (v / s, f64::from(quant.largest()));
    let (fraction, least_exponent) = match quant {
        Quant::I8 if q.is_nan() => return 0.0,
        Quant::I8 => return q.clamp(-largest, largest).round_ties_even(),
        Quant::F8E4M3 => (3, -6),
        Quant::F8E5M2 => (2, -14),
    };
    let exponent = (q.abs().to_bits() >> 52) as i32 - 1023;
    let ulp = 2.0_f64.powi(exponent.max(least_exponent) - fraction);
    // Infinity has an infinite ulp.
    if q.is_infinite() {
        largest.copysign(q)
    } else {
        ((q / ulp).round_ties_even() * ulp).clamp(-largest, largest)
    }
}

/// The scale of a row whose largest |v| is `most`.
#[must_use]
pub fn scale(quant: Quant, most: f64) -> f64 {
    if most == 0.0 { 1.0 } else { (most / f64::from(quant.largest())).max(f64::from(f32::MIN_POSITIVE)) }
}

/// The value of an element by its byte.
#[must_use]
pub fn value(quant: Quant, byte: u8) -> f32 {
    match quant {
        Quant::I8 => f32::from(byte.cast_signed()),
        Quant::F8E4M3 => F8E4M3::from_bits(byte).to_f32(),
        Quant::F8E5M2 => F8E5M2::from_bits(byte).to_f32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The finite values of a type, in order.
    fn finite(quant: Quant) -> Vec<f64> {
        let mut all: Vec<_> = (0..=u8::MAX).map(|byte| f64::from(value(quant, byte))).collect();
        all.retain(|v| v.abs() <= f64::from(quant.largest()));
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }

    #[test]
    fn each_value_stays_and_what_lies_between_goes_to_the_nearest() {
        for quant in Quant::ALL {
            let values = finite(quant);
            assert_eq!(values.last(), Some(&f64::from(quant.largest())), "{quant}");
            for pair in values.windows(2) {
                let (low, high) = (pair[0], pair[1]);
                let (tie, step) = ((low + high) / 2.0, high - low);
                assert_eq!(quantised(quant, low, 1.0), low, "{quant}");
                assert_eq!(quantised(quant, tie - step / 1024.0, 1.0), low, "{quant} above {low}");
                assert_eq!(quantised(quant, tie + step / 1024.0, 1.0), high, "{quant} below {high}");
                // To the even one: an even multiple of the smaller step of the two neighbours' is no odd one of theirs.
                let even = |v: f64| (v / step) % 2.0 == 0.0;
                let expected = if even(low) { low } else { high };
                assert_eq!(quantised(quant, tie, 1.0), expected, "{quant} between {low} and {high}");
            }
        }
    }

    /// The crate has conversions of its own, from NVIDIA's header.
    #[test]
    fn the_crate_agrees() {
        for i in 0..2_000_000_u32 {
            let v = f32::from_bits(i.wrapping_mul(2147));
            if !v.is_nan() {
                let (four, five) = (F8E4M3::from_f32(v).to_f64(), F8E5M2::from_f32(v).to_f64());
                assert_eq!(quantised(Quant::F8E4M3, f64::from(v), 1.0), four, "{v:e}");
                assert_eq!(quantised(Quant::F8E5M2, f64::from(v), 1.0), five, "{v:e}");
            }
        }
    }

    #[test]
    fn what_is_not_finite() {
        for quant in Quant::ALL {
            let largest = f64::from(quant.largest());
            assert_eq!(quantised(quant, f64::INFINITY, 3.0), largest);
            assert_eq!(quantised(quant, f64::NEG_INFINITY, 3.0), -largest);
            assert_eq!(quantised(quant, 5.0, f64::INFINITY), 0.0);
            let nan = [quantised(quant, f64::NAN, 1.0), quantised(quant, f64::INFINITY, f64::INFINITY)];
            assert!(nan.iter().all(|y| if quant == Quant::I8 { *y == 0.0 } else { y.is_nan() }), "{nan:?}");
        }
    }

    #[test]
    fn scales() {
        for quant in Quant::ALL {
            let largest = f64::from(quant.largest());
            assert_eq!(scale(quant, 0.0), 1.0);
            assert_eq!(scale(quant, largest), 1.0);
            assert_eq!(scale(quant, 1e-300), f64::from(f32::MIN_POSITIVE));
            assert_eq!(scale(quant, f64::INFINITY), f64::INFINITY);
            for most in [0.0_f32, 1e-40, 3.0, f32::MAX, f32::INFINITY] {
                assert_eq!(quant.scale(most), scale(quant, f64::from(most)) as f32, "{quant} {most}");
            }
        }
    }
}
