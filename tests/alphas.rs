//! DyT with every kind of alpha: 0, negative, tiny, huge, infinite and NaN, on every level, against f64.

mod common;

use dyt::half::{bf16, f16};
use dyt::{Backward, DType, Device, Element, Forward, Op, Problem, Result};
use dyt_conformance::round_to;

/// A type of elements.
trait Stored: Element {
    /// Bits of the significand, and the exponent of the least positive value.
    const BITS: i32;
    const LEAST: i32;
    fn of(v: f64) -> Self;
    fn wide(self) -> f64;
}

impl Stored for f32 {
    const BITS: i32 = 24;
    const LEAST: i32 = -149;
    fn of(v: f64) -> Self {
        v as Self
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Stored for f16 {
    const BITS: i32 = 11;
    const LEAST: i32 = -24;
    fn of(v: f64) -> Self {
        Self::from_f32(round_to(DType::F16, v))
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
}

impl Stored for bf16 {
    const BITS: i32 = 8;
    const LEAST: i32 = -133;
    fn of(v: f64) -> Self {
        Self::from_f32(round_to(DType::Bf16, v))
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
}

/// The distance of neighbouring numbers of T at `v`.
fn ulp<T: Stored>(v: f64) -> f64 {
    let exponent = if v == 0.0 { T::LEAST } else { v.abs().log2().floor() as i32 - (T::BITS - 1) };
    f64::from(exponent.max(T::LEAST)).exp2()
}

/// What gamma is with its offset.
const GAMMA: f64 = 0.75;
const OFFSET: f64 = -0.25;
const BETA: f64 = -0.25;

/// x of both signs at which u = alpha·x has sizes from tiny to saturated, as far as T has such x.
fn inputs<T: Stored>(alpha: f32) -> Vec<T> {
    let mut x = vec![T::of(0.0), T::of(1.0), T::of(-3.0)];
    let scale = if alpha.is_finite() && alpha != 0.0 { f64::from(alpha).abs() } else { 1.0 };
    for step in -24..40 {
        let u = f64::from(step).mul_add(0.25, 0.1).exp2();
        for u in [u, -1.37 * u] {
            // Those that T holds, with most of their digits.
            let v = T::of(u / scale);
            if v.wide().is_finite() && v.wide().abs() > f64::from(T::LEAST + T::BITS).exp2() {
                x.push(v);
            }
        }
    }
    x
}

fn check<T: Stored>(device: &Device, alpha: f32) -> Result<()> {
    let x = inputs::<T>(alpha);
    let cols = x.len();
    let problem = Problem::new(Op::Dyt, 1, cols).dtype(T::DTYPE).param_dtype(DType::F32);
    let problem = problem.gamma_offset(OFFSET as f32).build()?;
    let (gamma, beta) = (vec![(GAMMA - OFFSET) as f32; cols], vec![BETA as f32; cols]);
    let mut y = vec![T::of(0.0); cols];
    device.forward(&problem, Forward::new(&x, &mut y).alpha(&alpha).gamma(&gamma).beta(&beta))?;
    let dy = vec![T::of(1.0); cols];
    let (mut dx, mut dgamma) = (vec![T::of(0.0); cols], vec![0.0_f32; cols]);
    let arguments = Backward::of(&x).dy(&dy).alpha(&alpha).gamma(&gamma).dx(&mut dx).dgamma(&mut dgamma);
    device.backward(&problem, arguments)?;
    for i in 0..cols {
        let u = f64::from(alpha) * x[i].wide();
        let place = format!("{} {} alpha {alpha:e} x {:e}", device.name(), T::DTYPE, x[i].wide());
        let near = |name: &str, got: f64, exact: f64, bound: f64| {
            let same = got == exact || got.is_nan() && exact.is_nan();
            assert!(same || (got - exact).abs() <= bound, "{place}: {name} is {got:e}, not {exact:e}");
        };
        let f = u.tanh();
        let larger = (GAMMA * f).abs().max(BETA.abs());
        // Of f32 4 ulp; of 16 bits half an ulp at y and half an ulp at the larger term.
        let exact = GAMMA * f + BETA;
        let bound =
            if T::BITS == 24 { 4.0 * ulp::<f32>(larger) } else { (ulp::<T>(exact) + ulp::<T>(larger)) / 2.0 };
        near("y", y[i].wide(), exact, bound);
        let e = (-2.0 * u.abs()).exp();
        let slope = 4.0 * e / ((1.0 + e) * (1.0 + e));
        let exact = f64::from(alpha) * GAMMA * slope;
        // Nothing in between may leave the normal numbers of f32.
        let factor = (f64::from(alpha) * GAMMA).abs();
        if factor == 0.0 || !factor.is_finite() || (1e-37..1e37).contains(&factor) && exact.abs() < 1e38 {
            let relative = (6.0 + 2.0 * u.abs()) * f64::from(f32::EPSILON) * exact.abs();
            let subnormal = f64::from(-149.0_f32).exp2() * factor.max(1.0);
            let bound = if relative.is_finite() { relative + subnormal + ulp::<T>(exact) } else { 0.0 };
            near("dx", dx[i].wide(), T::of(exact).wide(), bound);
        }
        near("dgamma", f64::from(dgamma[i]), f, 1e-6 * f.abs() + 1e-45);
    }
    Ok(())
}

/// Powers of two and other numbers over the whole range of f32.
fn alphas() -> Vec<f32> {
    let mut alphas =
        vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-42];
    for exponent in -120..120 {
        let alpha = f32::from_bits(((127 + exponent) as u32) << 23);
        alphas.extend([alpha, -1.618_034 * alpha]);
    }
    alphas
}

#[test]
fn every_kind_of_alpha_meets_the_bounds() -> Result<()> {
    for device in common::devices() {
        for alpha in alphas() {
            check::<f32>(&device, alpha)?;
            check::<f16>(&device, alpha)?;
            check::<bf16>(&device, alpha)?;
        }
    }
    Ok(())
}

/// The end of each table is moved to 1 for each alpha: what is saturated is exactly gamma + beta.
#[test]
fn infinity_gives_gamma_and_beta_for_a_dense_set_of_alphas() -> Result<()> {
    fn check<T: Stored>(device: &Device, alpha: f32) -> Result<()> {
        let x = [T::of(f64::INFINITY), T::of(f64::NEG_INFINITY)];
        let problem = Problem::new(Op::Dyt, 1, 2).dtype(T::DTYPE).param_dtype(DType::F32).build()?;
        let mut y = [T::of(0.0); 2];
        let (gamma, beta) = ([1.0_f32; 2], [0.0_f32; 2]);
        device.forward(&problem, Forward::new(&x, &mut y).alpha(&alpha).gamma(&gamma).beta(&beta))?;
        let sign = f64::from(alpha.signum());
        assert_eq!(y.map(T::wide), [sign, -sign], "{} {} alpha {alpha:e}", device.name(), T::DTYPE);
        Ok(())
    }
    for device in common::devices() {
        for step in 0..20_000_u16 {
            let alpha = (f32::from(step) / 2_000.0 - 5.0).exp2() * if step % 2 == 0 { 1.0 } else { -1.0 };
            check::<f32>(&device, alpha)?;
            check::<f16>(&device, alpha)?;
            check::<bf16>(&device, alpha)?;
        }
    }
    Ok(())
}
