//! From f32 to one byte: rounding to nearest even and saturation, lane by lane.

use crate::Quant;
use crate::cpu::lanes::{Lanes, Register};

/// A type of a quantised y.
pub(super) trait Code: Copy + 'static {
    /// The code of each value, in the lowest byte of its lane.
    fn of<R: Register>(v: R) -> R;
}

/// The codes of a vector, one behind the other.
///
/// # Safety
/// `p` is valid for writes of a byte for each lane.
#[inline(always)]
pub(super) unsafe fn store<R: Register, C: Code>(v: Lanes<R>, p: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { R::store_bytes(C::of(v.0), C::of(v.1), p) }
}

#[derive(Clone, Copy)]
pub(super) struct I8;
#[derive(Clone, Copy)]
pub(super) struct F8E4M3;
#[derive(Clone, Copy)]
pub(super) struct F8E5M2;

/// 1.5 · 2²³: a number added to it is rounded to an integer, which stands in the lowest bits.
const TO_INTEGER: f32 = 12_582_912.0;

impl Code for I8 {
    #[inline(always)]
    fn of<R: Register>(v: R) -> R {
        let largest = Quant::I8.largest();
        let v = v.at_most(R::splat(largest)).at_least(R::splat(-largest));
        // A comparison with NaN is false: it becomes 0.
        v.if_less(R::splat(f32::INFINITY), v, R::splat(0.0)).add(R::splat(TO_INTEGER))
    }
}

impl Code for F8E4M3 {
    #[inline(always)]
    fn of<R: Register>(v: R) -> R {
        float8::<R, 3, 7>(v, Quant::F8E4M3.largest())
    }
}

impl Code for F8E5M2 {
    #[inline(always)]
    fn of<R: Register>(v: R) -> R {
        float8::<R, 2, 15>(v, Quant::F8E5M2.largest())
    }
}

/// The code of a NaN, in both types.
const NAN: u32 = 0x7f;

/// The codes of a float of one byte with `FRACTION` bits of fraction and that bias of the exponent.
#[inline(always)]
fn float8<R: Register, const FRACTION: u32, const BIAS: u32>(v: R, largest: f32) -> R {
    let size = v.abs().at_most(R::splat(largest));
    // A normal result: the bits of the fraction that f32 has beyond it are rounded off, and the rest is its code but for
    // the bias. 20 or 21 bits go.
    let normal = {
        let half = (1 << (22 - FRACTION)) - 1;
        let (rounded, least) = match FRACTION {
            3 => (size.bits_plus(half), size.bits_right::<20>()),
            _ => (size.bits_plus(half), size.bits_right::<21>()),
        };
        let rounded = rounded.bits_add(least.bits_and(1));
        let code = match FRACTION {
            3 => rounded.bits_right::<20>(),
            _ => rounded.bits_right::<21>(),
        };
        code.bits_plus(((127 - BIAS) << FRACTION).wrapping_neg())
    };
    // A subnormal one, which counts multiples of the least number: added to a power of two whose ulp that is, it stands in the
    // lowest bits. One that is rounded up to the least normal number gets its code.
    let least_exponent = 1 - BIAS.cast_signed();
    let unit = power(least_exponent - FRACTION.cast_signed() + 23);
    let subnormal = size.add(R::splat(unit)).bits_and(0xff);
    let code = size.if_less(R::splat(power(least_exponent)), subnormal, normal);
    let code = code.bits_or(v.bits_right::<24>().bits_and(0x80));
    size.if_less(R::splat(f32::INFINITY), code, R::splat(f32::from_bits(NAN)))
}

/// 2^`exponent`, a normal number.
const fn power(exponent: i32) -> f32 {
    f32::from_bits((127 + exponent).cast_unsigned() << 23)
}

#[cfg(test)]
mod tests {
    use float8::{F8E4M3 as E4M3, F8E5M2 as E5M2};

    use super::*;
    use crate::Level;
    use crate::cpu::lanes::{Kernel, MAX_LANES};
    use crate::cpu::level::Isa;

    /// Encodes as many values as the widest vector has lanes.
    struct Encode<'a>(Quant, &'a [f32; MAX_LANES], &'a mut [u8; MAX_LANES]);

    impl Kernel for Encode<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<R: Register>(self) {
            for at in (0..MAX_LANES).step_by(Lanes::<R>::LANES) {
                // SAFETY: both arrays have whole vectors.
                unsafe {
                    let v = Lanes::<R>::load(self.1.as_ptr().add(at));
                    let p = self.2.as_mut_ptr().add(at);
                    match self.0 {
                        Quant::I8 => store::<R, I8>(v, p),
                        Quant::F8E4M3 => store::<R, F8E4M3>(v, p),
                        Quant::F8E5M2 => store::<R, F8E5M2>(v, p),
                    }
                }
            }
        }
    }

    fn expected(quant: Quant, v: f32) -> u8 {
        match quant {
            // The cast saturates, and makes 0 of NaN.
            Quant::I8 => (v.round_ties_even().clamp(-127.0, 127.0) as i8).cast_unsigned(),
            _ if v.is_nan() => 0x7f,
            // The crate rounds to nearest even and saturates.
            Quant::F8E4M3 => E4M3::from_f32(v).to_bits(),
            Quant::F8E5M2 => E5M2::from_f32(v).to_bits(),
        }
    }

    /// Every 4099th f32, each with its neighbours, and every tie: a number of bits that covers each exponent.
    #[test]
    fn every_level_rounds_to_nearest_even_and_saturates() {
        let ties = (0..=u16::MAX).flat_map(|high| {
            let bits = u32::from(high) << 16;
            [bits.wrapping_sub(1), bits, bits + 1]
        });
        let sample = (0..=u32::MAX).step_by(4099).chain(ties).map(f32::from_bits);
        let sample = sample.chain((-2560..=2560).map(|i| i as f32 / 16.0)).collect::<Vec<_>>();
        for isa in Level::ALL.into_iter().filter_map(|level| Isa::detect(level).ok()) {
            for quant in Quant::ALL {
                for values in sample.chunks(MAX_LANES) {
                    let mut padded = [0.0; MAX_LANES];
                    padded[..values.len()].copy_from_slice(values);
                    let mut codes = [0; MAX_LANES];
                    isa.run(Encode(quant, &padded, &mut codes));
                    for (v, code) in padded.into_iter().zip(codes) {
                        let expected = expected(quant, v);
                        let bits = v.to_bits();
                        assert_eq!(code, expected, "{quant} of {v:e} ({bits:#x}), {}", isa.level());
                    }
                }
            }
        }
    }
}
