//! Each operation of a register against scalar code, on every level of this machine.

use half::{bf16, f16};

use super::{Arithmetic, Kernel, LINE, Lanes, MAX_ENTRIES, MAX_LANES, Register, UP};
use crate::Level;
use crate::cpu::level::Isa;
use crate::cpu::stored::Stored;

fn on_every_level<K: Kernel + Copy>(kernel: K) {
    for isa in Level::ALL.into_iter().filter_map(|level| Isa::detect(level).ok()) {
        isa.run(kernel);
    }
}

/// The values of a vector, in the order of its lanes.
fn values<R: Register>(v: Lanes<R>) -> Vec<f32> {
    let mut values = [0.0; MAX_LANES];
    // SAFETY: there is room for the widest vector.
    unsafe { v.store(values.as_mut_ptr()) };
    values[..Lanes::<R>::LANES].to_vec()
}

fn vector<R: Register>(values: &[f32]) -> Lanes<R> {
    assert!(values.len() >= Lanes::<R>::LANES);
    // SAFETY: there are as many values.
    unsafe { Lanes::load(values.as_ptr()) }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Numbers of all kinds, and a NaN with bits in its lower half.
const SPECIAL: [f32; 12] = [
    0.0,
    -0.0,
    1.0,
    -2.5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::from_bits(0x7fff_ffff),
    f32::MIN_POSITIVE,
    -f32::from_bits(1),
    f32::MAX,
    -3.75e-20,
];

/// Every pair of special numbers, a vector of the widest level at a time.
fn pairs() -> Vec<(Vec<f32>, Vec<f32>)> {
    let all: Vec<(f32, f32)> = SPECIAL.iter().flat_map(|a| SPECIAL.iter().map(move |b| (*a, *b))).collect();
    let part = |part: &[(f32, f32)]| {
        let at = |i: usize| part[i % part.len()];
        ((0..MAX_LANES).map(|i| at(i).0).collect(), (0..MAX_LANES).map(|i| at(i).1).collect())
    };
    all.chunks(MAX_LANES).map(part).collect()
}

#[derive(Clone, Copy)]
struct Operations;

impl Kernel for Operations {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for (x, y) in pairs() {
            let (a, b) = (vector::<R>(&x), vector::<R>(&y));
            let check = |name: &str, got: Lanes<R>, expected: &dyn Fn(f32, f32) -> f32| {
                for (i, got) in values(got).into_iter().enumerate() {
                    let expected = expected(x[i], y[i]);
                    assert!(
                        same(got, expected),
                        "{name}({:e}, {:e}) = {got:e}, not {expected:e}",
                        x[i],
                        y[i]
                    );
                }
            };
            check("add", a + b, &|a, b| a + b);
            check("sub", a - b, &|a, b| a - b);
            check("mul", a * b, &|a, b| a * b);
            check("div", a / b, &|a, b| a / b);
            check("abs", a.abs(), &|a, _| a.abs());
            check("times_sign", a.times_sign(b), &|a, b| if b.is_sign_negative() { -a } else { a });
            check("if_less", a.if_less(b, a, b), &|a, b| if a < b { a } else { b });
            check("keep", a.keep(b), &|a, b| if b > 0.0 { a } else { 0.0 });
            check("mul_add_exact", a.mul_add_exact(b, a), &|a, b| a.mul_add(b, a));
            for i in 0..Lanes::<R>::LANES {
                if !y[i].is_nan() {
                    let (least, most) = (values(a.at_most(b))[i], values(a.at_least(b))[i]);
                    let (low, high) = if x[i] < y[i] { (x[i], y[i]) } else { (y[i], x[i]) };
                    let nan = x[i].is_nan();
                    assert!(if nan { least.is_nan() && most.is_nan() } else { least == low && most == high });
                }
                let quiet = values(a.quiet())[i].to_bits();
                assert_eq!(quiet, if x[i].is_nan() { f32::NAN.to_bits() } else { x[i].to_bits() });
            }
        }
    }
}

#[test]
fn arithmetic_is_that_of_ieee_754() {
    on_every_level(Operations);
}

#[derive(Clone, Copy)]
struct Order;

impl Kernel for Order {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let n = Lanes::<R>::LANES;
        let counted: Vec<f32> = (0..MAX_LANES).map(|i| i as f32).collect();
        let v = vector::<R>(&counted);
        let split: Vec<f32> =
            (0..n).map(|i| (if i < n / 2 { 2 * i } else { 2 * i + 1 - n }) as f32).collect();
        assert_eq!(values(v.unzip()), split);
        assert_eq!(values(v.unzip().zip()), counted[..n]);
        let sums = Lanes::sums([v, v * Lanes::splat(2.0), v * Lanes::splat(-1.0), Lanes::splat(1.0)]);
        let sum: f32 = counted[..n].iter().sum();
        assert_eq!(sums, [sum, 2.0 * sum, -sum, n as f32]);
        for count in 0..=n {
            let plain: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i < count))).collect();
            assert_eq!(values(f32::mask::<R>(count)), plain);
            assert_eq!(values(f16::mask::<R>(count)), plain);
            assert_eq!(values(bf16::mask::<R>(count).zip()), plain);
        }
        let table: [f32; MAX_ENTRIES] = core::array::from_fn(|i| 100.0 + i as f32);
        // What chooses an entry: each exponent and each upper part of the fraction.
        for bits in (0x3f00_0000_u32..0x4180_0000).step_by(0x0011_1111) {
            if R::ENTRIES > 0 {
                let entry = (bits >> (25 - R::ENTRIES.ilog2())) as usize % R::ENTRIES;
                let got = values(Lanes::<R>::splat(f32::from_bits(bits)).lookup(&table));
                assert!(got.iter().all(|v| *v == table[entry]), "{bits:#x}: {got:?}");
            }
        }
    }
}

#[test]
fn lanes_have_their_order() {
    on_every_level(Order);
}

#[derive(Clone, Copy)]
struct Powers;

impl Kernel for Powers {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for step in 0..40_000_u16 {
            let w = -f32::from(step) / 256.0;
            let (s, f) = Lanes::<R>::splat(w).exp2_parts();
            let (s, f) = (values(s)[0], values(f)[0]);
            let (exact, got) = (f64::from(w).exp2(), f64::from(s) * f64::from(f).exp2() / f64::from(UP));
            assert!(f.abs() <= 0.5, "2^{w} = {s:e}·2^{f}");
            assert!((got - exact).abs() <= exact * 1e-12 || exact < 1e-45, "2^{w} = {s:e}·2^{f}");
            let one = f32::from(step) / 40_000.0 + 1.0;
            let reciprocal = values(Lanes::<R>::splat(one).reciprocal())[0];
            assert!((f64::from(reciprocal) * f64::from(one) - 1.0).abs() < 1.2e-7, "1/{one} = {reciprocal}");
        }
        let (s, _) = Lanes::<R>::splat(f32::NEG_INFINITY).exp2_parts();
        assert!(values(s)[0] * (1.0 / UP) == 0.0);
    }
}

#[test]
fn powers_of_two_come_in_two_parts() {
    on_every_level(Powers);
}

#[derive(Clone, Copy)]
struct Halves;

impl Halves {
    #[inline(always)]
    fn check<R: Register, T: Stored>(of_bits: impl Fn(u16) -> T, bits: impl Fn(T) -> u16) {
        let n = Lanes::<R>::LANES;
        let mut exact = Vec::new();
        for first in (0..=u16::MAX).step_by(n) {
            let from: Vec<T> = (0..n as u16).map(|i| of_bits(first + i)).collect();
            let mut to = from.clone();
            to.reverse();
            // SAFETY: both are as long as a vector.
            unsafe { T::store(to.as_mut_ptr(), T::load::<R>(from.as_ptr())) };
            for (a, b) in from.iter().zip(&to) {
                let nan = a.widen().is_nan() && b.widen().is_nan();
                assert!(nan || bits(*a) == bits(*b), "{:#x} becomes {:#x}", bits(*a), bits(*b));
            }
            exact.extend(from.iter().map(|v| v.widen()).filter(|v| v.is_finite()));
        }
        // Each value, its neighbours in f32, and the middle to the next one with its neighbours.
        let near =
            |v: f32| [0_u32, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001].map(|o| v.to_bits() + o);
        let wide: Vec<f32> =
            exact.into_iter().flat_map(near).map(f32::from_bits).filter(|v| !v.is_nan()).collect();
        for part in wide.chunks_exact(n) {
            let mut to = vec![of_bits(0); n];
            let v = if T::SPLIT { vector::<R>(part).unzip() } else { vector::<R>(part) };
            // SAFETY: there is room for a vector.
            unsafe { T::store(to.as_mut_ptr(), v) };
            for (v, got) in part.iter().zip(to) {
                assert_eq!(bits(got), bits(T::narrow(*v)), "{v:e}");
            }
        }
    }
}

impl Kernel for Halves {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        Self::check::<R, f16>(f16::from_bits, f16::to_bits);
        Self::check::<R, bf16>(bf16::from_bits, bf16::to_bits);
    }
}

#[test]
fn sixteen_bits_are_widened_exactly_and_rounded_to_nearest_even() {
    on_every_level(Halves);
}

#[derive(Clone, Copy)]
struct Parts;

impl Parts {
    fn check<R: Register, T: Stored + Default>() {
        let lanes = Lanes::<R>::LANES;
        for n in 1..lanes {
            // Not a value more, so that a tool which watches memory sees what is read behind them.
            let from: Box<[T]> = (1..=n).map(|i| T::narrow(i as f32)).collect();
            let mut expected = vec![1.0; lanes];
            for i in 0..n {
                expected[i] = (i + 1) as f32;
            }
            // SAFETY: there are `n` values.
            let part: Lanes<R> = unsafe { T::load_part(from.as_ptr(), n) };
            let mut got = vec![T::default(); lanes];
            // SAFETY: there is room for a vector.
            unsafe { T::store(got.as_mut_ptr(), part) };
            assert_eq!(got.into_iter().map(T::widen).collect::<Vec<_>>(), expected, "{n} values");
        }
    }
}

impl Kernel for Parts {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        Self::check::<R, f32>();
        Self::check::<R, f16>();
        Self::check::<R, bf16>();
    }
}

#[test]
fn parts_repeat_their_first_value() {
    on_every_level(Parts);
}

/// Lines of the cache.
#[repr(align(64))]
struct Aligned([u8; 4 * LINE]);

#[derive(Clone, Copy)]
struct Copies;

impl Kernel for Copies {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let from: Vec<u8> = (0..=255).collect();
        for n in (0..=MAX_LANES * 4).step_by(2) {
            let mut to = vec![0xee; 256];
            // SAFETY: both have so many bytes.
            unsafe { R::copy_few(from.as_ptr(), to.as_mut_ptr(), n) };
            assert_eq!(to[..n], from[..n]);
            assert!(to[n..].iter().all(|byte| *byte == 0xee), "{n} bytes");
        }
        let mut to = Aligned([0; 4 * LINE]);
        // SAFETY: the second line is aligned; there are as many bytes in `from`.
        unsafe { R::stream_line(from.as_ptr().add(3), to.0.as_mut_ptr().add(LINE)) };
        R::fence();
        assert_eq!(to.0[LINE..2 * LINE], from[3..3 + LINE]);
        assert!(to.0[..LINE].iter().chain(&to.0[2 * LINE..]).all(|byte| *byte == 0));
    }
}

#[test]
fn copies_touch_what_they_name() {
    on_every_level(Copies);
}
