//! f16 and bf16 conversion in integer arithmetic, for levels without instructions for it.
//!
//! Branch-free, so that loops over arrays become vector code. Every conversion is exact or rounds once to nearest
//! even; subnormals are kept, overflow gives infinity, and a NaN stays a NaN (made quiet) with its sign.

/// 2⁻¹⁴, the least normal f16, as f32 bits.
const F16_MIN_NORMAL: u32 = 0x3880_0000;
/// 65520, the least magnitude that rounds to infinity in f16, as f32 bits.
const F16_OVERFLOW: u32 = 0x477f_f000;
/// Infinity as f32 bits.
const INFINITY: u32 = 0x7f80_0000;
/// The difference of the exponent biases, 127 − 15, in place.
const BIAS: u32 = 112 << 23;

/// `mask` is 0 or all ones.
#[inline(always)]
const fn pick(mask: u32, a: u32, b: u32) -> u32 {
    (a & mask) | (b & !mask)
}

/// All ones if `condition`, else 0.
#[inline(always)]
const fn mask(condition: bool) -> u32 {
    (condition as u32).wrapping_neg()
}

/// The f32 equal to the f16 with bits `h`.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u16) -> f32 {
    let sign = (u32::from(h) & 0x8000) << 16;
    let a = (u32::from(h) & 0x7fff) << 13;
    let special = mask(a >= 0x7c00 << 13) & INFINITY;
    let quiet = mask(a > 0x7c00 << 13) & 0x0040_0000;
    // The fraction of a subnormal becomes that of a number from 2⁻¹⁴ up, and the difference is exact.
    let subnormal = (f32::from_bits(a | F16_MIN_NORMAL) - f32::from_bits(F16_MIN_NORMAL)).to_bits();
    let finite = pick(mask(a < 0x0400 << 13), subnormal, a.wrapping_add(BIAS));
    f32::from_bits(sign | finite | special | quiet)
}

/// The bits of the f16 nearest to `v`.
#[inline(always)]
pub(crate) fn f32_to_f16(v: f32) -> u16 {
    let bits = v.to_bits();
    let a = bits & 0x7fff_ffff;
    let normal = a.wrapping_sub(BIAS).wrapping_add(0x0fff + ((a >> 13) & 1)) >> 13;
    // In the sum the last place is worth 2⁻²⁴, the least subnormal, so that the addition rounds.
    let subnormal = (f32::from_bits(a) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let finite = pick(mask(a < F16_MIN_NORMAL), subnormal, normal);
    let nan = 0x7e00 | ((a >> 13) & 0x03ff);
    let large = pick(mask(a > INFINITY), nan, 0x7c00);
    let magnitude = pick(mask(a >= F16_OVERFLOW), large, finite);
    (((bits >> 16) & 0x8000) | magnitude) as u16
}

/// The f32 equal to the bf16 with bits `b`.
#[inline(always)]
pub(crate) fn bf16_to_f32(b: u16) -> f32 {
    f32::from_bits(u32::from(b) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn widening_is_exact_for_every_value() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()),
                "f16 {bits:#06x}"
            );
            let (ours, theirs) = (bf16_to_f32(bits), f32::from_bits(u32::from(bits) << 16));
            assert_eq!(ours.to_bits(), theirs.to_bits(), "bf16 {bits:#06x}");
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even() {
        // Every f16, its neighbours in f32, and the midpoints to the next f16 with their neighbours.
        for step in 0..=u32::from(u16::MAX) * 2 {
            for offset in -1..=1 {
                let bits = (step << 15).wrapping_add_signed(offset);
                check(f32::from_bits(bits));
            }
        }
        for h in 0..=u16::MAX {
            let centre = f16::from_bits(h).to_f32().to_bits();
            for offset in [0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001] {
                check(f32::from_bits(centre.wrapping_add(offset)));
                check(f32::from_bits(centre.wrapping_sub(offset)));
            }
        }
    }

    fn check(v: f32) {
        let (ours, theirs) = (f32_to_f16(v), f16::from_f32(v));
        assert!(ours == theirs.to_bits() || (v.is_nan() && f16::from_bits(ours).is_nan()), "f16 of {v:e}");
    }
}
