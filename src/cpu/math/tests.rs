//! Special values and sampled errors of the functions, and the conversions of 16-bit storage, on every level of this
//! machine. `tests/exhaustive.rs` goes through all values of u.

use half::{bf16, f16};

use super::{erf, erf_bf16, erf_f16, erf_grad, tanh, tanh_bf16, tanh_f16, tanh_grad};
use crate::Level;
use crate::cpu::level::Isa;
use crate::cpu::simd::{Kernel, Simd};

/// A level whose functions take the way of levels with so many entries a lookup: with fused multiply-add its results
/// are bit for bit theirs, so that each way is tested wherever AVX2 or NEON is at hand.
#[derive(Clone, Copy)]
struct As<S, const ENTRIES: usize>(S);

/// A kernel that sees the level so.
struct Seen<K, const ENTRIES: usize>(K);

impl<K: Kernel, const ENTRIES: usize> Kernel for Seen<K, ENTRIES> {
    type Output = K::Output;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> K::Output {
        self.0.run(As::<S, ENTRIES>(simd))
    }
}

impl<S: Simd, const E: usize> Simd for As<S, E> {
    type F = S::F;
    const LANES: usize = S::LANES;
    const REGISTERS: usize = S::REGISTERS;
    const FUSED: bool = S::FUSED;
    const ENTRIES: usize = E;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.0.run(Seen::<K, E>(kernel))
    }
    #[inline(always)]
    fn splat(self, v: f32) -> S::F {
        self.0.splat(v)
    }
    #[inline(always)]
    fn lookup<const T: usize>(self, table: &[f32; T], index: S::F) -> S::F {
        self.0.lookup(table, index)
    }
    #[inline(always)]
    fn mul_add_exact(self, alpha: S::F, x: S::F, shift: S::F) -> S::F {
        self.0.mul_add_exact(alpha, x, shift)
    }
    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> S::F {
        // SAFETY: the caller's promise, as in all of these.
        unsafe { self.0.load_f32(p) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { self.0.load_f16(p) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { self.0.load_bf16(p) }
    }
    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32, v: S::F, stream: bool) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_f32(p, v, stream) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: S::F, stream: bool) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_f16(p, v, stream) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: S::F, stream: bool) {
        // SAFETY: the caller's promise.
        unsafe { self.0.store_bf16(p, v, stream) }
    }
    #[inline(always)]
    fn fence(self) {
        self.0.fence();
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        self.0.prefetch(p);
    }
}

/// Runs `kernel` on `isa`, seen with so many entries; 0 leaves it as it is.
fn run<K: Kernel>(isa: Isa, entries: usize, kernel: K) -> K::Output {
    match entries {
        16 => isa.run(Seen::<K, 16>(kernel)),
        8 => isa.run(Seen::<K, 8>(kernel)),
        1 => isa.run(Seen::<K, 0>(kernel)),
        _ => isa.run(kernel),
    }
}

/// The levels of this machine, and each with fused multiply-add in the ways of the others.
fn ways() -> Vec<(String, Isa, usize)> {
    let mut ways = Vec::new();
    for isa in Level::ALL.into_iter().filter_map(|level| Isa::detect(level).ok()) {
        ways.push((isa.level().name().to_owned(), isa, 0));
        if isa.level() != Level::Portable {
            for (entries, name) in [(16, "16 entries"), (8, "8 entries"), (1, "no entries")] {
                ways.push((format!("{} with {name}", isa.level()), isa, entries));
            }
        }
    }
    ways
}

#[derive(Clone, Copy, Debug)]
enum Function {
    Tanh,
    TanhGrad,
    TanhF16,
    TanhBf16,
    Erf,
    ErfGrad,
    ErfF16,
    ErfBf16,
}

/// The function of each u, and its derivative or 0.
struct Values<'a> {
    function: Function,
    u: &'a [f32],
}

impl Kernel for Values<'_> {
    type Output = Vec<(f32, f32)>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let zero = [simd.splat(0.0)];
        let mut values = Vec::new();
        for chunk in self.u.chunks(S::LANES) {
            let (mut u, mut y, mut slope) = ([0.0; 16], [0.0; 16], [0.0; 16]);
            u[..chunk.len()].copy_from_slice(chunk);
            // SAFETY: a vector has at most 16 lanes.
            unsafe {
                let u = [simd.load_f32(u.as_ptr())];
                let (f, d) = match self.function {
                    Function::Tanh => (tanh(simd, u), zero),
                    Function::TanhGrad => tanh_grad(simd, u),
                    Function::TanhF16 => (tanh_f16(simd, u), zero),
                    Function::TanhBf16 => (tanh_bf16(simd, u), zero),
                    Function::Erf => (erf(simd, u), zero),
                    Function::ErfGrad => erf_grad(simd, u),
                    Function::ErfF16 => (erf_f16(simd, u), zero),
                    Function::ErfBf16 => (erf_bf16(simd, u), zero),
                };
                simd.store_f32(y.as_mut_ptr(), f[0], false);
                simd.store_f32(slope.as_mut_ptr(), d[0], false);
            }
            values.extend(y.into_iter().zip(slope).take(chunk.len()));
        }
        values
    }
}

/// 1 − tanh² u by a formula that loses nothing at any u.
fn sech2(u: f64) -> f64 {
    let e = (-2.0 * u.abs()).exp();
    4.0 * e / ((1.0 + e) * (1.0 + e))
}

fn erf_slope(u: f64) -> f64 {
    core::f64::consts::FRAC_2_SQRT_PI * (-u * u).exp()
}

/// |got − exact| in units in the last place of `exact` rounded to a float with `bits` of significand, whose least
/// normal number is 2^`least`.
fn ulps(got: f32, exact: f64, bits: i32, least: i32) -> f64 {
    let exponent = if exact == 0.0 { least } else { (exact.abs().log2().floor() as i32).max(least) };
    (f64::from(got) - exact).abs() / 2f64.powi(exponent - (bits - 1))
}

/// Values of every size, the neighbours of the steps that the functions take, and some subnormals.
fn samples() -> Vec<f32> {
    let sizes = (0..f32::INFINITY.to_bits()).step_by(65_539).map(f32::from_bits);
    let near = (0x3c00_0000_u32..0x4240_0000).step_by(4_099).map(f32::from_bits);
    let steps = [0.55, 3.95, 4.5, 5.5, 5.5625, 2.5, 9.05, 9.1, 10.25, 43.66, 53.0, 2.75, 2.78125];
    let eighths = (1..512).map(|k| k as f32 / 32.0).chain(steps);
    let edges =
        eighths.flat_map(|edge| (-3..=3).map(move |k| f32::from_bits(edge.to_bits().wrapping_add_signed(k))));
    sizes.chain(near).chain(edges).flat_map(|u| [u, -u]).collect()
}

#[test]
fn values_are_within_two_ulp_and_slopes_within_four() {
    let u = samples();
    for (name, isa, entries) in ways() {
        for (function, f, slope) in [
            (Function::Tanh, f64::tanh as fn(f64) -> f64, None),
            (Function::TanhGrad, f64::tanh, Some(sech2 as fn(f64) -> f64)),
            (Function::Erf, libm::erf, None),
            (Function::ErfGrad, libm::erf, Some(erf_slope)),
        ] {
            for (u, (y, d)) in u.iter().zip(run(isa, entries, Values { function, u: &u })) {
                let error = ulps(y, f(f64::from(*u)), 24, -126);
                assert!(error <= 2.0, "{name}: f({u:e}) = {y:e} is off by {error} ulp");
                let Some(slope) = slope else { continue };
                let exact = slope(f64::from(*u));
                let error = ulps(d, exact, 24, -126);
                let bound = if exact < f64::from(f32::MIN_POSITIVE) { 1.5 } else { 4.0 };
                assert!(error <= bound, "{name}: f'({u:e}) = {d:e} is off by {error} ulp");
            }
        }
    }
}

#[test]
fn narrow_values_are_within_a_quarter_ulp_of_their_type() {
    let u = samples();
    for (name, isa, entries) in ways() {
        for (function, f, bits) in [
            (Function::TanhF16, f64::tanh as fn(f64) -> f64, 11),
            (Function::ErfF16, libm::erf, 11),
            (Function::TanhBf16, f64::tanh, 8),
            (Function::ErfBf16, libm::erf, 8),
        ] {
            for (u, (y, _)) in u.iter().zip(run(isa, entries, Values { function, u: &u })) {
                // As if f16 had the exponents of f32, so that the error counts relative near 0 too.
                let error = ulps(y, f(f64::from(*u)), bits, -126);
                assert!(error <= 0.25, "{name}: {function:?} f({u:e}) = {y:e} is off by {error} ulp");
            }
        }
    }
}

#[test]
fn special_values_are_exact() {
    let u = [
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e9,
        -1e9,
        f32::NAN,
        -f32::NAN,
        f32::from_bits(0xff80_0001),
    ];
    let exact = [0.0, -0.0, 1.0, -1.0, 1.0, -1.0_f32];
    for (name, isa, entries) in ways() {
        for function in [
            Function::Tanh,
            Function::TanhGrad,
            Function::TanhF16,
            Function::TanhBf16,
            Function::Erf,
            Function::ErfGrad,
            Function::ErfF16,
            Function::ErfBf16,
        ] {
            let got = run(isa, entries, Values { function, u: &u });
            for (i, exact) in exact.into_iter().enumerate() {
                assert_eq!(
                    got[i].0.to_bits(),
                    exact.to_bits(),
                    "{name}: {function:?} f({}) = {}",
                    u[i],
                    got[i].0
                );
            }
            for i in 2..6 {
                assert_eq!(got[i].1, 0.0, "{name}: f'({})", u[i]);
            }
            for (f, slope) in &got[6..9] {
                assert!(f.is_nan(), "{name}: {function:?} f(NaN) = {f}");
                if matches!(function, Function::TanhGrad | Function::ErfGrad) {
                    assert!(slope.is_nan(), "{name}: {function:?} f'(NaN) = {slope}");
                }
            }
        }
    }
}

/// alpha·x + shift of each triple.
struct MulAddExact<'a>(&'a [[f32; 3]]);

impl Kernel for MulAddExact<'_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let lane = |[alpha, x, shift]: [f32; 3]| {
            let v = simd.mul_add_exact(simd.splat(alpha), simd.splat(x), simd.splat(shift));
            let mut out = [0.0; 16];
            // SAFETY: a vector has at most 16 lanes.
            unsafe { simd.store_f32(out.as_mut_ptr(), v, false) };
            out[0]
        };
        self.0.iter().copied().map(lane).collect()
    }
}

#[test]
fn mul_add_exact_rounds_once() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from_bits((state >> 32) as u32)
    };
    let any = (0..20_000).map(|_| [random(), random(), random()]).collect::<Vec<_>>();
    // Sums that nearly cancel, and sums whose lower part decides the rounding.
    let close = any.iter().flat_map(|[a, b, c]| {
        let (a, b) = (
            f32::from_bits(a.to_bits() & 0x81ff_ffff | 0x3e00_0000),
            f32::from_bits(b.to_bits() & 0x81ff_ffff | 0x3e00_0000),
        );
        [[a, b, -(a * b)], [a, b, a * b * 2f32.powi((c.to_bits() & 31) as i32)]]
    });
    let cases = any.iter().copied().chain(close).collect::<Vec<_>>();
    for (name, isa, _) in ways() {
        for (case, got) in cases.iter().zip(isa.run(MulAddExact(&cases))) {
            let exact = case[0].mul_add(case[1], case[2]);
            assert!(
                got.to_bits() == exact.to_bits() || got.is_nan() && exact.is_nan(),
                "{name}: {case:?} gives {got:e}, not {exact:e}"
            );
        }
    }
}

/// Every f16 and bf16 widened; every given f32 narrowed to both.
struct Halves<'a>(&'a [f32]);

impl Kernel for Halves<'_> {
    type Output = (Vec<[f32; 2]>, Vec<(f16, bf16)>);
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        for first in (0..=u16::MAX).step_by(S::LANES) {
            let bits: [u16; 16] = core::array::from_fn(|i| first.wrapping_add(i as u16));
            let (halves, brains) = (bits.map(f16::from_bits), bits.map(bf16::from_bits));
            let mut out = [[0.0; 16]; 2];
            // SAFETY: a vector has at most 16 lanes.
            unsafe {
                simd.store_f32(out[0].as_mut_ptr(), simd.load_f16(halves.as_ptr()), false);
                simd.store_f32(out[1].as_mut_ptr(), simd.load_bf16(brains.as_ptr()), false);
            }
            wide.extend((0..S::LANES).map(|i| [out[0][i], out[1][i]]));
        }
        for chunk in self.0.chunks(S::LANES) {
            let (mut v, mut halves, mut brains) = ([0.0; 16], [f16::ZERO; 16], [bf16::ZERO; 16]);
            v[..chunk.len()].copy_from_slice(chunk);
            // SAFETY: a vector has at most 16 lanes.
            unsafe {
                simd.store_f16(halves.as_mut_ptr(), simd.load_f32(v.as_ptr()), false);
                simd.store_bf16(brains.as_mut_ptr(), simd.load_f32(v.as_ptr()), false);
            }
            narrow.extend(halves.into_iter().zip(brains).take(chunk.len()));
        }
        (wide, narrow)
    }
}

#[test]
fn halves_widen_exactly_and_round_to_nearest_even() {
    // Steps of half a place of bf16 and of f16 in its own range, with the neighbours.
    let steps = (0..=u32::MAX).step_by(0x8000).chain((0x3300_0000..0x4780_0000).step_by(0x1000));
    let mut values = steps
        .flat_map(|bits| [-1, 0, 1].map(|k| bits.wrapping_add_signed(k)))
        .flat_map(|bits| [bits, bits | 0x8000_0000])
        .map(f32::from_bits)
        .collect::<Vec<_>>();
    values.extend([0x7f80_0001, 0x7fff_ffff, 0xffff_ffff, 0x7fbf_ffff].map(f32::from_bits));
    for (name, isa, _) in ways().into_iter().filter(|way| way.2 == 0) {
        let (wide, narrow) = isa.run(Halves(&values));
        for (bits, [half, brain]) in (0..=u16::MAX).zip(wide) {
            assert!(same(half, f16::from_bits(bits).to_f32()), "{name}: f16 {bits:#06x}");
            assert!(same(brain, bf16::from_bits(bits).to_f32()), "{name}: bf16 {bits:#06x}");
        }
        for (v, (half, brain)) in values.iter().zip(narrow) {
            assert!(same(half.to_f32(), f16::from_f32(*v).to_f32()), "{name}: {v:e} to f16 {half:e}");
            assert!(same(brain.to_f32(), bf16::from_f32(*v).to_f32()), "{name}: {v:e} to bf16 {brain:e}");
        }
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}
