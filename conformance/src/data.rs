//! How inputs are drawn: a small seeded generator, and the kinds of values that kernels get wrong.

use dyt::DType;
use half::{bf16, f16};

/// A seeded generator (SplitMix64): the same numbers on every machine and in every version.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Begins a sequence; equal seeds give equal sequences.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly from 0 (included) to 1 (not).
    pub const fn uniform(&mut self) -> f64 {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * UNIT
    }

    /// Evenly from `low` (included) to `high` (not).
    pub const fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Evenly from the whole numbers below `n`; 0 if `n` is 0.
    pub const fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next_u64() % n as u64) as usize }
    }

    /// From the normal distribution of mean 0 and standard deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (core::f64::consts::TAU * self.uniform()).cos()
    }

    /// −1 or 1.
    pub const fn sign(&mut self) -> f64 {
        if self.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }
    }

    /// Of either sign, its exponent of ten evenly from `low` to `high`.
    pub fn power(&mut self, low: f64, high: f64) -> f64 {
        self.sign() * 10.0_f64.powf(self.between(low, high))
    }
}

/// `value` rounded once to `dtype`, to nearest even, as f32.
#[must_use]
pub fn round_to(dtype: DType, value: f64) -> f32 {
    match dtype {
        // y is quantised from f32: see `dyt::reference::quantised`.
        DType::F32 | DType::Quant(_) => value as f32,
        DType::F16 => f16::from_f64(sticky(value)).to_f32(),
        DType::Bf16 => bf16::from_f64(sticky(value)).to_f32(),
    }
}

/// `value` with its lower 32 bits gathered in the one above them: the crate `half` drops them, so that what lies just
/// beyond a tie would be rounded as a tie.
fn sticky(value: f64) -> f64 {
    let bits = value.to_bits();
    f64::from_bits(if bits as u32 == 0 { bits } else { bits | 1 << 32 })
}

/// The kind of values that inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Values {
    /// Normal with standard deviation 1, and now and then a zero of either sign.
    Normal,
    /// Up to the largest finite values, each row with its own exponent.
    Huge,
    /// Normal times a power of ten, each row with its own, about a mean of up to 10 standard deviations: squares overflow.
    HugeNormal,
    /// Down to the smallest normal values, each row with its own exponent.
    Tiny,
    /// As [`Self::HugeNormal`], down to subnormal values, and for the norms with an eps of 0: squares underflow.
    TinyNormal,
    /// Subnormal in the storage type.
    Subnormal,
    /// Each row has one value, or the whole tensor has.
    EqualRows,
    /// Normal with a mean of up to 10⁴ standard deviations.
    LargeOffset,
    /// Normal, but for the first 32 of each row, or the first quarter, which lie up to 1000 standard deviations away: a
    /// guess of the mean from them is wrong.
    Displaced,
    /// |alpha·x| so large that f saturates.
    Saturated,
    /// Normal, with NaN, +inf and −inf sprinkled in.
    NonFinite,
}

impl Values {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Normal,
        Self::Huge,
        Self::HugeNormal,
        Self::Tiny,
        Self::TinyNormal,
        Self::Subnormal,
        Self::EqualRows,
        Self::LargeOffset,
        Self::Displaced,
        Self::Saturated,
        Self::NonFinite,
    ];

    /// The name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Huge => "huge",
            Self::HugeNormal => "huge-normal",
            Self::Tiny => "tiny",
            Self::TinyNormal => "tiny-normal",
            Self::Subnormal => "subnormal",
            Self::EqualRows => "equal-rows",
            Self::LargeOffset => "large-offset",
            Self::Displaced => "displaced",
            Self::Saturated => "saturated",
            Self::NonFinite => "non-finite",
        }
    }
}

impl core::fmt::Display for Values {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_just_beyond_a_tie_is_no_tie() {
        let beyond = f64::from(f32::from_bits(0xc102_8007));
        assert_eq!(round_to(DType::Bf16, beyond), -8.1875);
        let tie = 1.0 + 2.0_f64.powi(-11);
        assert_eq!(round_to(DType::F16, tie), 1.0);
        assert_eq!(round_to(DType::F16, tie + 2.0_f64.powi(-40)), 1.0 + 2.0_f32.powi(-10));
        assert_eq!(round_to(DType::F16, tie - 2.0_f64.powi(-40)), 1.0);
    }

    #[test]
    fn the_generator_is_seeded_and_spread() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..10_000).map(|_| random.normal()).collect::<Vec<_>>()
        };
        let normals = draw(7);
        assert_eq!(normals, draw(7));
        assert_ne!(normals, draw(8));
        let mean = normals.iter().sum::<f64>() / 1e4;
        let variance = normals.iter().map(|v| v * v).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.uniform()) && random.below(3) < 3));
    }

    #[test]
    fn rounding_is_to_nearest_even_with_overflow() {
        assert_eq!(round_to(DType::Bf16, 1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(round_to(DType::F16, 65_520.0), f32::INFINITY);
        assert_eq!(round_to(DType::F32, 1e39), f32::INFINITY);
        assert!(round_to(DType::F16, f64::NAN).is_nan());
    }

    #[test]
    fn a_value_beside_a_tie_is_not_taken_for_the_tie() {
        let ties =
            [(DType::F16, 1.0 + 1.0 / 2048.0, 1.0 / 1024.0), (DType::Bf16, 1.0 + 1.0 / 256.0, 1.0 / 128.0)];
        for (dtype, tie, ulp) in ties {
            for beside in [2.0_f64.powi(-20), 2.0_f64.powi(-23), 2.0_f64.powi(-24), 2.0_f64.powi(-50)] {
                assert_eq!(round_to(dtype, tie + beside), 1.0 + ulp, "{dtype} {beside:e}");
                assert_eq!(round_to(dtype, tie - beside), 1.0, "{dtype} {beside:e}");
                assert_eq!(round_to(dtype, -tie - beside), -1.0 - ulp, "{dtype} {beside:e}");
            }
            assert_eq!(round_to(dtype, tie), 1.0);
        }
        assert_eq!(round_to(DType::F16, 2.0_f64.powi(-25) * (1.0 + 1e-12)), 2.0_f32.powi(-24));
        assert_eq!(round_to(DType::F16, 1e-300), 0.0);
    }
}
