//! The table of `docs/numerics.md`: how far a result may lie from the f64 reference.
//!
//! Every bound is a function of quantities of the reference. An `ulp` of f32 is 2⁻²³ of the larger term, as in the
//! table; a true ulp is meant for the rounding to storage alone. Where a partial product is subnormal the table
//! promises nothing, and the bounds here add what underflow can cost at most (`underflow` in the names), so that
//! those results are compared too.

mod dsum;
mod expected;
mod quant;

use dyt::{Backend, DType, Op};

pub use dsum::with_dsum;
pub use expected::{Expected, Measured};
pub use quant::{quantised_y, scale};

use crate::data::round_to;

/// One ulp of f32, relative.
pub const ULP: f64 = 1.0 / (1_u32 << 23) as f64;
/// The smallest normal f32: 2⁻¹²⁶.
pub const SMALLEST_NORMAL: f64 = f32::MIN_POSITIVE as f64;
/// The smallest subnormal f32: 2⁻¹⁴⁹.
pub const SMALLEST_SUBNORMAL: f64 = SMALLEST_NORMAL * ULP;
/// The largest finite f32.
pub const LARGEST: f64 = f32::MAX as f64;
/// |mean|·rstd up to which the bounds of the norms hold.
pub const LARGEST_OFFSET: f64 = 1e4;

/// What a backend's arithmetic promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arithmetic {
    /// Bound of f32 y of DyT and Derf, in ulp.
    pub y_ulps: f64,
    /// Factor on every f32 bound.
    pub factor: f64,
    /// Whether a fused multiply-add may be missing.
    pub unfused: bool,
    /// Whether a subnormal result may be 0.
    pub flushes: bool,
    /// Bound of a division, in ulp.
    pub division: f64,
}

impl Arithmetic {
    /// That of a backend. A backend that is not known is held to the rules of the CPU.
    #[must_use]
    pub const fn of(backend: Backend) -> Self {
        let cpu = Self { y_ulps: 4.0, factor: 1.0, unfused: false, flushes: false, division: 0.5 };
        match backend {
            Backend::Cuda => Self { y_ulps: 5.0, ..cpu },
            Backend::Wgpu => Self { factor: 2.0, unfused: true, flushes: true, division: 2.5, ..cpu },
            _ => cpu,
        }
    }

    /// What `loss`, the cost of underflow where subnormals are kept, is where they may be 0. Each of n − 1 roundings then
    /// errs by 2⁻¹²⁶ and not by 2⁻¹⁵⁰, and each of n factors by as much before: (2n − 1)/((n − 1)/2) ≤ 6 times 2²³.
    fn underflow(self, loss: f64) -> f64 {
        if self.flushes { 6.0 / ULP * loss } else { loss }
    }

    /// What is lost of an input that may be flushed.
    #[must_use]
    pub fn lost(self, input: f64) -> f64 {
        if self.flushes && is_subnormal(input) { input.abs() } else { 0.0 }
    }

    /// `bound` of a result near `value`, which may itself be 0 where subnormals are.
    fn or_zero(self, value: f64, bound: f64) -> f64 {
        if self.flushes && value.abs() - bound < SMALLEST_NORMAL { bound.max(value.abs()) } else { bound }
    }

    /// `bound` of a result near `value`, with the backend's factor, and `value` itself where it may be flushed to 0.
    fn relax(self, value: f64, bound: f64) -> f64 {
        self.or_zero(value, self.factor * bound)
    }
}

/// The ulp of `dtype` at `value` rounded to it; at infinity that of the largest finite value.
#[must_use]
pub fn storage_ulp(dtype: DType, value: f64) -> f64 {
    ulp_at(dtype, f64::from(round_to(dtype, value)))
}

/// The distance of the values of `dtype` on both sides of `value`.
fn ulp_at(dtype: DType, value: f64) -> f64 {
    let highest = match dtype {
        DType::F16 => 15,
        DType::F32 | DType::Bf16 | DType::Quant(_) => 127,
    };
    ulp_below(dtype, value, highest)
}

/// The same, with `highest` for the largest exponent of the type.
fn ulp_below(dtype: DType, value: f64, highest: i32) -> f64 {
    let (digits, lowest) = match dtype {
        // y is quantised from f32, and held to bounds of its own.
        DType::F32 | DType::Quant(_) => (23, -126),
        DType::F16 => (10, -14),
        DType::Bf16 => (7, -126),
    };
    let biased = (value.abs().to_bits() >> 52) as i32;
    2.0_f64.powi((biased - 1023).clamp(lowest, highest) - digits)
}

/// The magnitude from which on values round to infinity in `dtype`.
fn overflow(dtype: DType) -> f64 {
    let largest = match dtype {
        DType::F32 | DType::Quant(_) => LARGEST,
        DType::F16 => 65_504.0,
        DType::Bf16 => f64::from(half::bf16::MAX),
    };
    largest + storage_ulp(dtype, largest) / 2.0
}

/// Whether `value` is not 0 and below the normal f32.
#[must_use]
pub const fn is_subnormal(value: f64) -> bool {
    value != 0.0 && value.abs() < SMALLEST_NORMAL
}

/// The error of u that rounding alpha·x and shift apart costs, where the backend may do so: 2⁻²³·(|alpha·x| + |shift|);
/// and all of alpha·x where it is subnormal, or becomes so by what is lost of x, and may be 0.
#[must_use]
pub fn unfused(arithmetic: Arithmetic, op: Op, x: f64, lost_of_x: f64, alpha: f64, shift: f64) -> f64 {
    let scaled = alpha * x;
    let rounding =
        if arithmetic.unfused && op.has_shift() { ULP * (scaled.abs() + shift.abs()) } else { 0.0 };
    let of_x = alpha.abs() * (arithmetic.lost(x) + lost_of_x);
    rounding + arithmetic.or_zero(scaled, of_x)
}

/// One element of a pointwise op, forward and backward, as the reference has it.
#[derive(Clone, Copy, Debug)]
pub struct Pointwise {
    /// alpha.
    pub alpha: f64,
    /// gamma of the column.
    pub gamma: f64,
    /// beta of the column.
    pub beta: f64,
    /// dy of the element.
    pub dy: f64,
    /// u.
    pub u: f64,
    /// f(u).
    pub f: f64,
    /// f′(u).
    pub slope: f64,
    /// From [`unfused`].
    pub unfused: f64,
}

/// y of DyT and Derf, gamma·f + beta.
#[must_use]
pub fn pointwise_y(arithmetic: Arithmetic, dtype: DType, y: f64, at: &Pointwise) -> Expected {
    let scaled = (at.gamma * at.f).abs();
    let larger = scaled.max(at.beta.abs());
    // A subnormal f errs by two steps, its u by half a step (times f′ ≤ 1.13), their product by half a step.
    let f = if is_subnormal(at.f) { 2.6 * at.gamma.abs() } else { 0.0 };
    let product = if is_subnormal(at.gamma * at.f) { 0.5 } else { 0.0 };
    let underflow = arithmetic.underflow(SMALLEST_SUBNORMAL * (f + product));
    let single = arithmetic.y_ulps * ULP * larger + underflow;
    let bound = match dtype {
        DType::F32 | DType::Quant(_) => arithmetic.relax(y, single),
        DType::F16 | DType::Bf16 => {
            let rest = if arithmetic.flushes { underflow } else { 0.0 };
            arithmetic.or_zero(y, stored(dtype, y, larger, term_ulp(dtype, larger) / 2.0 + rest))
        }
    };
    let lost = at.f.abs() * arithmetic.lost(at.gamma) + arithmetic.lost(at.beta);
    // What is lost before may leave a subnormal y, which is lost too.
    let bound = arithmetic.or_zero(y, bound + at.gamma.abs() * at.slope * at.unfused + lost);
    Expected::Near { value: y, bound }
}

/// A y whose two terms f32 arithmetic reaches and adds exactly: their sum, less what of it may be flushed.
#[must_use]
pub fn exact_y(arithmetic: Arithmetic, dtype: DType, terms: [f64; 2]) -> Expected {
    let sum = terms[0] + terms[1];
    let y = round_to(dtype, f64::from(sum as f32));
    let lost = (arithmetic.lost(terms[0]) + arithmetic.lost(terms[1])).max(arithmetic.lost(sum));
    if lost == 0.0 {
        return Expected::equal(y);
    }
    // What is left may be rounded to the neighbour.
    Expected::Near { value: f64::from(y), bound: lost + storage_ulp(dtype, sum) }
}

/// The bound of y in 16-bit storage, from that of what is rounded.
///
/// The table says 1 ulp at the larger of the two terms. Two cases need more, which is half an ulp at y for the
/// rounding, and the error of what is rounded:
/// - Where |gamma·f + beta| reaches the next power of two, half an ulp at y is a whole ulp at the larger term, and
///   leaves nothing to arithmetic: beside a tie 1 ulp cannot hold. Half an ulp at the larger term is what the table
///   leaves to f elsewhere.
/// - Where x̂ of LayerNorm is small by cancellation, the deviation keeps the absolute error of the mean, which is more
///   than half an ulp of x̂·gamma.
fn stored(dtype: DType, y: f64, larger: f64, arithmetic: f64) -> f64 {
    let ulp = term_ulp(dtype, larger);
    if ulp == 0.0 { arithmetic } else { ulp.max(ulp_at(dtype, y) / 2.0 + arithmetic) }
}

/// dx of DyT and Derf, alpha·dy·gamma·f′(u).
#[must_use]
pub fn pointwise_dx(arithmetic: Arithmetic, op: Op, dtype: DType, dx: f64, at: &Pointwise) -> Expected {
    if at.dy.is_nan() || at.u.is_nan() {
        return Expected::nan();
    }
    if at.dy.is_infinite() {
        // A slope that underflows makes NaN of an infinity.
        let certain = at.slope >= SMALLEST_NORMAL;
        return if certain { Expected::Near { value: dx, bound: 0.0 } } else { Expected::Anything };
    }
    let scaled = (at.alpha * at.dy * at.gamma).abs();
    if scaled == 0.0 || at.u.is_infinite() {
        return Expected::equal(0.0);
    }
    let products = Products::of(&[at.alpha, at.dy, at.gamma, at.slope]);
    if products.largest > LARGEST {
        return Expected::Anything;
    }
    let without_slope = Products::of(&[at.alpha, at.dy, at.gamma]);
    let mut underflow = 0.0;
    if at.slope < SMALLEST_NORMAL {
        underflow += SMALLEST_SUBNORMAL * scaled.max(1.0);
    } else if products.smallest < SMALLEST_NORMAL {
        underflow += products.underflow;
    }
    if without_slope.smallest < SMALLEST_NORMAL {
        underflow += without_slope.underflow;
    }
    let relative = match op {
        Op::Derf => slope_ulps(op, at.u) * ULP + 2.0 * at.u.abs() * at.unfused,
        Op::Dyt | Op::LayerNorm | Op::RmsNorm => slope_ulps(op, at.u) * ULP,
    };
    let relative = if dx == 0.0 { 0.0 } else { relative * dx.abs() };
    let lost = at.dy.abs() * arithmetic.lost(at.gamma) + at.gamma.abs() * arithmetic.lost(at.dy);
    let lost = (at.alpha * at.slope).abs() * lost;
    let bound = arithmetic.relax(dx, relative + arithmetic.underflow(underflow)) + rounding(dtype, dx);
    Expected::Near { value: dx, bound: bound + lost }
}

/// 6 + 2|u|, of Derf 6 + 2u².
fn slope_ulps(op: Op, u: f64) -> f64 {
    6.0 + 2.0 * steepness(op, u)
}

/// |u| of DyT, u² of Derf: what a relative error of u becomes as a relative error of f′, up to a factor of 2. NaN, which
/// no result passes, of an op that has no f.
#[must_use]
pub const fn steepness(op: Op, u: f64) -> f64 {
    match op {
        Op::Dyt => u.abs(),
        Op::Derf => u * u,
        Op::LayerNorm | Op::RmsNorm => f64::NAN,
    }
}

/// The ulp of `dtype` at the larger term; 0 where all terms are 0, which nothing rounds. With parameters in f32 a term may
/// be too large for the type, and the other bring the sum back: its ulp is then that of a type with more exponents.
fn term_ulp(dtype: DType, larger: f64) -> f64 {
    if larger == 0.0 {
        0.0
    } else if larger.abs() < overflow(dtype) {
        storage_ulp(dtype, larger)
    } else {
        ulp_below(dtype, larger, 127)
    }
}

/// One ulp of a 16-bit storage type at `value`; 0 for f32, whose bounds hold the rounding already.
fn rounding(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 | DType::Quant(_) => 0.0,
        DType::F16 | DType::Bf16 => storage_ulp(dtype, value),
    }
}

/// The partial products of some factors, in every order in which they may be formed.
#[derive(Clone, Copy, Debug)]
pub struct Products {
    /// The largest magnitude of a product of some, but not all, of the factors; 1 if all are moderate.
    pub largest: f64,
    /// The smallest magnitude that is not 0 of a product of two or more of the factors; 1 if all are moderate.
    pub smallest: f64,
    /// What underflow in any order can cost: each rounding half a step, times whatever is still to be multiplied.
    pub underflow: f64,
}

impl Products {
    /// Of these factors, at most a handful.
    #[must_use]
    pub fn of(factors: &[f64]) -> Self {
        let moderate = |factor: &f64| (2.0_f64.powi(-30)..2.0_f64.powi(30)).contains(&factor.abs());
        if factors.len() <= 4 && factors.iter().all(moderate) {
            return Self { largest: 1.0, smallest: 1.0, underflow: 0.0 };
        }
        let (mut largest, mut smallest) = (0.0_f64, f64::INFINITY);
        let all = (1_usize << factors.len()) - 1;
        for subset in 1..=all {
            let chosen = factors.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
            let product = chosen.map(|(_, factor)| factor.abs()).product::<f64>();
            if subset != all {
                largest = largest.max(product);
            }
            if subset.count_ones() > 1 && product > 0.0 {
                smallest = smallest.min(product);
            }
        }
        let rest: f64 = factors.iter().map(|factor| factor.abs().max(1.0)).product();
        let roundings = factors.len() as f64 - 1.0;
        Self { largest, smallest, underflow: roundings * SMALLEST_SUBNORMAL / 2.0 * rest }
    }
}

/// One result of a norm's forward: y = x̂·gamma + beta.
#[derive(Clone, Copy, Debug)]
pub struct NormY {
    /// The reference's y.
    pub y: f64,
    /// x̂.
    pub x_hat: f64,
    /// gamma of the column.
    pub gamma: f64,
    /// beta of the column.
    pub beta: f64,
    /// What is lost of x̂ if x is flushed, from [`Arithmetic::lost`].
    pub lost: f64,
}

/// y of the norms, x̂·gamma + beta.
#[must_use]
pub fn norm_y(arithmetic: Arithmetic, op: Op, dtype: DType, at: &NormY) -> Expected {
    let scaled = (at.x_hat * at.gamma).abs();
    let underflow = if is_subnormal(scaled) { arithmetic.underflow(SMALLEST_SUBNORMAL) } else { 0.0 };
    let lost = at.lost * at.gamma.abs() + at.x_hat.abs() * arithmetic.lost(at.gamma);
    let rest = ULP * at.beta.abs() + underflow + lost + arithmetic.lost(at.beta);
    let single = 1e-6 * (1.0 + at.x_hat.abs()) * at.gamma.abs() + rest;
    let single = match (dtype, op.has_mean()) {
        (DType::F32 | DType::Quant(_), _) | (_, true) => single,
        // RMSNorm subtracts nothing: its x̂ has the relative error of rstd.
        (DType::F16 | DType::Bf16, false) => single.min(2e-6 * scaled + rest),
    };
    let single = arithmetic.relax(at.y, single);
    let bound = match dtype {
        DType::F32 | DType::Quant(_) => single,
        DType::F16 | DType::Bf16 => {
            arithmetic.or_zero(at.y, stored(dtype, at.y, scaled.max(at.beta.abs()), single))
        }
    };
    Expected::Near { value: at.y, bound }
}

/// dx of the norms, with the largest |h| of the row.
#[must_use]
pub fn norm_dx(
    arithmetic: Arithmetic,
    dtype: DType,
    value: f64,
    rstd: f64,
    largest_h: f64,
    x_hat: f64,
) -> Expected {
    let spread = 1.0 + x_hat.abs();
    // A handful of products, each half a step; none matters beside h from 2⁻¹⁰⁰ on.
    if largest_h == 0.0 {
        return Expected::equal(0.0);
    }
    let tiny = largest_h.min(rstd * largest_h) < 2.0_f64.powi(-100);
    let underflow = if tiny { 4.0 * SMALLEST_SUBNORMAL * rstd.max(1.0) * spread * spread } else { 0.0 };
    let single = arithmetic.relax(value, 4e-6 * rstd * largest_h * spread + arithmetic.underflow(underflow));
    Expected::Near { value, bound: single + rounding(dtype, value) }
}

/// The mean of a row, with the largest |x| of it.
#[must_use]
pub fn mean(arithmetic: Arithmetic, value: f64, largest_x: f64) -> Expected {
    let small = largest_x < 2.0_f64.powi(-100);
    let underflow = if small { arithmetic.underflow(SMALLEST_SUBNORMAL) } else { 0.0 };
    let bound = 1e-6 * (value.abs() + largest_x) + if largest_x == 0.0 { 0.0 } else { underflow };
    Expected::Near { value, bound: arithmetic.relax(value, bound) }
}

/// rstd of a row. Beyond f32 it is infinite, where the backend's arithmetic knows infinities.
#[must_use]
pub fn rstd(arithmetic: Arithmetic, value: f64) -> Expected {
    if arithmetic.flushes && value > LARGEST {
        return Expected::Anything;
    }
    Expected::Near { value, bound: arithmetic.relax(value, 2e-6 * value.abs()) }
}

/// A gradient of a parameter: the sum of terms whose weighted magnitudes sum to `magnitude`, with what underflow of
/// the terms can cost.
#[must_use]
pub fn sum(arithmetic: Arithmetic, value: f64, magnitude: f64, underflow: f64) -> Expected {
    if !value.is_finite() {
        return Expected::Near { value, bound: 0.0 };
    }
    Expected::Near {
        value,
        bound: arithmetic.relax(value, 1e-6 * magnitude + arithmetic.underflow(underflow)),
    }
}

#[cfg(test)]
mod tests;
