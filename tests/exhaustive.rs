//! tanh, erf and their derivatives against f64, by way of the public calls: every f32 value of u in the ignored test,
//! some of them in the other. An f64 result is computed once and every level compared with it.

mod common;

use core::f64::consts::FRAC_2_SQRT_PI;
use core::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use dyt::half::{bf16, f16};
use dyt::{Backward, DType, Device, Element, Forward, Op, Problem, Result};

/// Values of u that are compared at once; the f64 results stay in the second-level cache.
const BLOCK: usize = 1 << 14;
/// Non-negative values, infinity and NaNs included.
const VALUES: u32 = 1 << 31;
const SIGN: u32 = 1 << 31;

#[test]
#[ignore = "all values of f32: minutes, and in release only; .ci/run runs it"]
fn every_value() -> Result<()> {
    check(&common::devices(), 1)
}

#[test]
fn sampled_values() -> Result<()> {
    check(&common::devices(), if common::quick() { 65_537 } else { 4_099 })
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Tanh,
    TanhSlope,
    /// tanh as dgamma has it.
    TanhBackward,
    Erf,
    ErfSlope,
    /// erf as dgamma has it.
    ErfBackward,
}

impl Function {
    const ALL: [Self; 6] =
        [Self::Tanh, Self::TanhSlope, Self::TanhBackward, Self::Erf, Self::ErfSlope, Self::ErfBackward];

    const fn name(self) -> &'static str {
        match self {
            Self::Tanh => "tanh",
            Self::TanhSlope => "tanh'",
            Self::TanhBackward => "tanh of the backward",
            Self::Erf => "erf",
            Self::ErfSlope => "erf'",
            Self::ErfBackward => "erf of the backward",
        }
    }

    const fn op(self) -> Op {
        match self {
            Self::Tanh | Self::TanhSlope | Self::TanhBackward => Op::Dyt,
            Self::Erf | Self::ErfSlope | Self::ErfBackward => Op::Derf,
        }
    }

    const fn is_sum(self) -> bool {
        matches!(self, Self::TanhBackward | Self::ErfBackward)
    }

    const fn is_slope(self) -> bool {
        matches!(self, Self::TanhSlope | Self::ErfSlope)
    }

    /// The value in f64. Nine in ten of all f32 are so small that two terms of the series are exact, or so large that the
    /// function is constant: no exponential is computed for them. 0 stands for less than 2⁻⁷ of the smallest f32.
    fn exact(self, u: f64) -> f64 {
        const SMALL: f64 = 1.0 / 16_384.0;
        let a = u.abs();
        match self {
            Self::Tanh | Self::TanhBackward if a < SMALL => u - u * (u * u) / 3.0,
            Self::Tanh | Self::TanhBackward if a > 20.0 => u.signum(),
            Self::TanhSlope if a < SMALL => 1.0 - u * u,
            Self::TanhSlope if a > 60.0 => 0.0,
            Self::Erf | Self::ErfBackward if a < SMALL => FRAC_2_SQRT_PI * (u - u * (u * u) / 3.0),
            Self::Erf | Self::ErfBackward if a > 6.0 => u.signum(),
            Self::ErfSlope if a < SMALL => FRAC_2_SQRT_PI * (1.0 - u * u),
            Self::ErfSlope if a > 11.0 => 0.0,
            _ => self.by_formula(u),
        }
    }

    fn by_formula(self, u: f64) -> f64 {
        match self {
            Self::Tanh | Self::TanhBackward => u.tanh(),
            Self::TanhSlope => {
                let e = (-2.0 * u.abs()).exp();
                4.0 * e / ((1.0 + e) * (1.0 + e))
            }
            Self::Erf | Self::ErfBackward => libm::erf(u),
            Self::ErfSlope => FRAC_2_SQRT_PI * (-u * u).exp(),
        }
    }

    /// The largest error in ulp that is allowed at `u`, where an ulp is 1/`per_ulp`. Below the normal numbers it is 2⁻¹⁴⁹.
    ///
    /// The derivatives have what the bound of dx, (6 + 2|u|)·2⁻²³ or with u² for |u|, leaves beside the rounding of three
    /// products; f of the backward has what dgamma's bound of 1e-6 leaves beside its sums (docs/numerics.md).
    fn bound(self, u: f64, exact: f64, per_ulp: f64) -> f64 {
        let step = f64::from(f32::EPSILON) * exact.abs() * per_ulp;
        let slope = |growth: f64| {
            let subnormal = if exact < f64::from(f32::MIN_POSITIVE) { 1.5 } else { 0.0 };
            (4.5 + 2.0 * growth) * step + subnormal
        };
        match self {
            Self::Tanh | Self::Erf => 2.0,
            Self::TanhSlope => slope(u.abs()),
            Self::ErfSlope => slope(u * u),
            Self::TanhBackward | Self::ErfBackward => (4.4e-7 * exact.abs() * per_ulp).max(1.5),
        }
    }
}

/// 1/ulp at `exact` rounded to f32.
fn per_ulp(exact: f64) -> f64 {
    let exponent = u64::from((exact as f32).to_bits() >> 23 & 0xff).max(1);
    f64::from_bits((1023 + 150 - exponent) << 52)
}

/// The largest error found, in ulp, where the exact value is a normal number.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    ulp: f64,
    at: u32,
}

impl Worst {
    /// The larger of both; of equals the one at the smaller u, so that threads do not matter.
    fn merge(&mut self, other: Self) {
        if other.ulp > self.ulp || (other.ulp == self.ulp && other.at < self.at) {
            *self = other;
        }
    }
}

/// One block of non-negative values, with room for the results of one device.
struct Block {
    bits: Vec<u32>,
    u: Vec<f32>,
    minus_u: Vec<f32>,
    exact: Vec<f64>,
    per_ulp: Vec<f64>,
    ones: Vec<f32>,
    got: Vec<f32>,
    mirrored: Vec<f32>,
}

impl Block {
    fn new(bits: Vec<u32>) -> Self {
        let n = bits.len();
        Self {
            u: bits.iter().map(|&bits| f32::from_bits(bits)).collect(),
            minus_u: bits.iter().map(|&bits| f32::from_bits(bits | SIGN)).collect(),
            bits,
            exact: vec![0.0; n],
            per_ulp: vec![0.0; n],
            ones: vec![1.0; n],
            got: vec![0.0; n],
            mirrored: vec![0.0; n],
        }
    }

    /// Compares one function on all devices, and adds to the worst error of each.
    fn check(&mut self, devices: &[Device], function: Function, worst: &mut [Worst]) -> Result<()> {
        for i in 0..self.u.len() {
            self.exact[i] = function.exact(f64::from(self.u[i]));
            self.per_ulp[i] = per_ulp(self.exact[i]);
        }
        for (device, worst) in devices.iter().zip(worst) {
            run(device, function, &self.ones, &self.u, &mut self.got)?;
            run(device, function, &self.ones, &self.minus_u, &mut self.mirrored)?;
            worst.merge(self.compare(&device.name(), function));
        }
        Ok(())
    }

    fn compare(&self, device: &str, function: Function) -> Worst {
        let mut worst = Worst::default();
        let flip = if function.is_slope() { 0 } else { SIGN };
        for i in 0..self.u.len() {
            let (got, exact, at) = (self.got[i], self.exact[i], self.bits[i]);
            if exact.is_nan() {
                assert!(
                    got.is_nan() && self.mirrored[i].is_nan(),
                    "{device} {function:?}(NaN {at:#010x}) = {got}"
                );
                continue;
            }
            let mirrored = f32::from_bits(self.mirrored[i].to_bits() ^ flip);
            // A sum of zeros is +0 whatever their signs.
            let zero = function.is_sum() && got == 0.0 && mirrored == 0.0;
            assert!(
                zero || got.to_bits() == mirrored.to_bits(),
                "{device} {function:?} at ±{at:#010x} is not symmetric: {got:e}"
            );
            let ulp = (f64::from(got) - exact).abs() * self.per_ulp[i];
            let bound = function.bound(f64::from(self.u[i]), exact, self.per_ulp[i]);
            // The bound at infinity is 0·∞.
            assert!(
                ulp == 0.0 || ulp <= bound,
                "{device} {function:?}({:e}, {at:#010x}) = {got:e}: {ulp} ulp",
                self.u[i]
            );
            if ulp > worst.ulp && exact >= f64::from(f32::MIN_POSITIVE) {
                worst = Worst { ulp, at };
            }
        }
        if self.bits[0] == 0 && !function.is_slope() {
            assert_eq!(self.got[0].to_bits(), 0, "{device} {function:?}(+0)");
        }
        worst
    }
}

/// f(u) or f′(u) by a forward or a backward. −0 as shift changes nothing, −0 included.
fn run(device: &Device, function: Function, ones: &[f32], u: &[f32], result: &mut [f32]) -> Result<()> {
    let (alpha, shift) = (1.0, -0.0);
    let op = function.op();
    let problem = Problem::new(op, 1, u.len()).build()?;
    if function.is_slope() {
        let mut arguments = Backward::of(u).dy(ones).alpha(&alpha).dx(result);
        arguments.shift = op.has_shift().then(|| (&shift).into());
        device.backward(&problem, arguments)
    } else if function.is_sum() {
        // dgamma of one row is f.
        let mut arguments = Backward::of(u).dy(ones).alpha(&alpha).gamma(ones).dgamma(result);
        arguments.shift = op.has_shift().then(|| (&shift).into());
        device.backward(&problem, arguments)
    } else {
        let mut arguments = Forward::new(u, result).alpha(&alpha);
        arguments.shift = op.has_shift().then(|| (&shift).into());
        device.forward(&problem, arguments)
    }
}

/// Checks every `step`th value on all cores.
fn check(devices: &[Device], step: u32) -> Result<()> {
    let numbers = VALUES.div_ceil(step);
    let blocks = numbers.div_ceil(BLOCK as u32);
    let next = AtomicU32::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let worst = Mutex::new(vec![[Worst::default(); 6]; devices.len()]);
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut mine = vec![[Worst::default(); 6]; devices.len()];
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= blocks {
                    break;
                }
                let first = index * BLOCK as u32;
                check_block(devices, first..numbers.min(first + BLOCK as u32), step, &mut mine)?;
            }
            let mut all = worst.lock().expect("no thread fails while it holds the lock");
            for (all, mine) in all.iter_mut().flatten().zip(mine.into_iter().flatten()) {
                all.merge(mine);
            }
            Ok(())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a value is out of bounds")).collect()
    });
    for (device, worst) in devices.iter().zip(worst.into_inner().expect("no thread failed")) {
        for (function, Worst { ulp, at }) in Function::ALL.into_iter().zip(worst) {
            println!("exhaustive: {} {} {ulp:.3} ulp at {at:#010x}", device.name(), function.name());
        }
    }
    results.into_iter().collect()
}

fn check_block(devices: &[Device], block: Range<u32>, step: u32, worst: &mut [[Worst; 6]]) -> Result<()> {
    // Steps would miss infinity.
    let values = block.map(|number| number * step).chain([f32::INFINITY.to_bits()]);
    let mut block = Block::new(values.collect());
    for (k, function) in Function::ALL.into_iter().enumerate() {
        let mut column: Vec<Worst> = worst.iter().map(|worst| worst[k]).collect();
        block.check(devices, function, &mut column)?;
        for (worst, column) in worst.iter_mut().zip(column) {
            worst[k] = column;
        }
    }
    Ok(())
}

/// A 16-bit storage type.
trait Narrow: Element {
    /// Bits of the significand, and the exponent of the smallest positive value.
    const BITS: i32;
    const LEAST: i32;
    fn of(bits: u16) -> Self;
    fn wide(self) -> f64;
    fn rounded(exact: f64) -> Self;
}

impl Narrow for f16 {
    const BITS: i32 = 11;
    const LEAST: i32 = -24;
    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn rounded(exact: f64) -> Self {
        Self::from_f32(dyt_conformance::round_to(DType::F16, exact))
    }
}

impl Narrow for bf16 {
    const BITS: i32 = 8;
    const LEAST: i32 = -133;
    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn rounded(exact: f64) -> Self {
        Self::from_f32(dyt_conformance::round_to(DType::Bf16, exact))
    }
}

/// Where no exponential is computed, what stands in its place is the formula up to the rounding of f64.
#[test]
fn the_exact_values_are_those_of_the_formulas() {
    for function in Function::ALL {
        for bits in (0..f32::INFINITY.to_bits()).step_by(9_973) {
            let u = f64::from(f32::from_bits(bits));
            let (short, formula) = (function.exact(u), function.by_formula(u));
            let error = (short - formula).abs();
            let bound = (formula.abs() * 4.0 * f64::EPSILON).max(1e-47);
            assert!(error <= bound, "{function:?}({u:e}) is {short:e}, by the formula {formula:e}");
            assert_eq!(function.exact(-u), if function.is_slope() { short } else { -short });
        }
        assert!(function.exact(f64::NAN).is_nan());
        assert_eq!(function.exact(f64::INFINITY), function.by_formula(f64::INFINITY));
    }
}

#[test]
fn every_value_of_16_bits() -> Result<()> {
    for device in common::devices() {
        for function in [Function::Tanh, Function::Erf] {
            check_narrow::<f16>(&device, function)?;
            check_narrow::<bf16>(&device, function)?;
        }
    }
    Ok(())
}

/// y is within one ulp of the storage type, which is measured at the exact value rounded to it.
fn check_narrow<T: Narrow>(device: &Device, function: Function) -> Result<()> {
    let x: Vec<T> = (0..=u16::MAX).map(T::of).collect();
    let mut y = vec![T::of(0x7fff); x.len()];
    let (alpha, shift, op) = (1.0, -0.0, function.op());
    let problem = Problem::new(op, 1, x.len()).dtype(T::DTYPE).build()?;
    let mut arguments = Forward::new(&x, &mut y).alpha(&alpha);
    arguments.shift = op.has_shift().then(|| (&shift).into());
    device.forward(&problem, arguments)?;

    let mut worst = 0.0_f64;
    for (x, y) in x.into_iter().zip(y) {
        let (u, y) = (x.wide(), y.wide());
        let exact = function.exact(u);
        let name = device.name();
        assert_eq!(exact.is_nan(), y.is_nan(), "{name} {} {function:?}({u:e}) = {y:e}", T::DTYPE);
        if exact.is_nan() {
            continue;
        }
        assert_eq!(u.is_sign_negative(), y.is_sign_negative(), "{name} {} {function:?}({u:e})", T::DTYPE);
        let rounded = T::rounded(exact).wide().abs();
        let exponent =
            (if rounded == 0.0 { T::LEAST } else { rounded.log2().floor() as i32 }) - (T::BITS - 1);
        let ulp = (y - exact).abs() / 2.0_f64.powi(exponent.max(T::LEAST));
        assert!(ulp <= 1.0, "{name} {} {function:?}({u:e}) = {y:e}, off by {ulp} ulp", T::DTYPE);
        assert!(exact != 0.0 || y == 0.0, "{name} {} {function:?}({u:e}) = {y:e}", T::DTYPE);
        worst = worst.max(ulp);
    }
    println!("16 bits: {} {} {} {worst:.4} ulp", device.name(), function.name(), T::DTYPE);
    Ok(())
}
