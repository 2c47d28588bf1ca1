//! The comparison itself: what it rejects, and what it has to accept.

use super::*;

const CPU: Arithmetic = Arithmetic::of(Backend::Cpu);

fn accepts(expected: Expected, got: f32) -> bool {
    expected.accept(DType::F32, got).is_some()
}

/// An element of DyT with gamma 2 and beta 0.5, in the middle of everything.
fn element() -> Pointwise {
    let u = 0.75_f64;
    let f = u.tanh();
    Pointwise { alpha: 0.5, gamma: 2.0, beta: 0.5, dy: 1.5, u, f, slope: 1.0 - f * f, unfused: 0.0 }
}

fn f32_above(value: f64) -> f32 {
    let rounded = value as f32;
    if f64::from(rounded) > value { rounded } else { rounded.next_up() }
}

#[test]
fn near_is_inclusive_and_no_wider() {
    let expected = Expected::Near { value: 1.0, bound: 2.0 * ULP };
    assert!(accepts(expected, 1.0) && accepts(expected, 1.0 + 2.0 * f32::EPSILON));
    assert!(!accepts(expected, 1.0 + 3.0 * f32::EPSILON));
    assert!(!accepts(expected, 1.0 - 2.5 * f32::EPSILON));
    let measured = expected.accept(DType::F32, 1.0 + f32::EPSILON).expect("within the bound");
    assert_eq!((measured.error, measured.bound, measured.ratio()), (ULP, 2.0 * ULP, 0.5));
}

#[test]
fn nan_is_only_nan() {
    for bound in [0.0, 1.0, f64::INFINITY] {
        assert!(!accepts(Expected::Near { value: 1.0, bound }, f32::NAN));
        assert!(!accepts(Expected::Near { value: f64::INFINITY, bound }, f32::NAN));
        let nan = Expected::Near { value: f64::NAN, bound };
        assert!(accepts(nan, f32::NAN) && accepts(nan, -f32::NAN));
        assert!(!accepts(nan, 0.0) && !accepts(nan, f32::INFINITY) && !accepts(nan, 1.0));
    }
}

#[test]
fn infinities_are_exact() {
    let up = Expected::Near { value: f64::INFINITY, bound: 1.0 };
    assert!(accepts(up, f32::INFINITY));
    assert!(!accepts(up, f32::NEG_INFINITY) && !accepts(up, f32::MAX) && !accepts(up, f32::NAN));
    let finite = Expected::Near { value: 1e30, bound: 1e25 };
    assert!(!accepts(finite, f32::INFINITY) && !accepts(finite, f32::NEG_INFINITY));
}

#[test]
fn infinity_is_accepted_for_what_can_round_to_it() {
    let f16 = |value: f64, got: f32| Expected::Near { value, bound: 32.0 }.accept(DType::F16, got).is_some();
    assert!(f16(65_519.0, f32::INFINITY) && f16(65_519.0, 65_504.0));
    assert!(f16(65_530.0, 65_504.0) && f16(1e6, f32::INFINITY));
    assert!(!f16(65_480.0, f32::INFINITY) && !f16(1e6, 65_504.0) && !f16(65_519.0, f32::NEG_INFINITY));
    let f32_of =
        |value: f64, got: f32| Expected::Near { value, bound: 0.0 }.accept(DType::F32, got).is_some();
    assert!(f32_of(3.5e38, f32::INFINITY) && !f32_of(3.5e38, f32::MAX));
}

#[test]
fn a_zero_reference_accepts_only_zero() {
    for dtype in DType::ALL {
        let at = Pointwise { f: 0.0, u: 0.0, slope: 1.0, beta: 0.0, ..element() };
        let y = pointwise_y(CPU, dtype, 0.0, &at);
        let frozen = pointwise_dx(CPU, Op::Dyt, dtype, 0.0, &Pointwise { dy: 0.0, ..element() });
        let saturated = Pointwise { u: f64::INFINITY, f: 1.0, slope: 0.0, ..element() };
        let saturated = pointwise_dx(CPU, Op::Dyt, dtype, 0.0, &saturated);
        let row = norm_dx(CPU, dtype, 0.0, 1.0, 0.0, 0.5);
        for expected in [y, frozen, saturated, row, sum(CPU, 0.0, 0.0, 0.0), Expected::equal(0.0)] {
            let ok = |got| expected.accept(dtype, got).is_some();
            assert!(ok(0.0) && ok(-0.0), "{dtype}: {expected:?}");
            assert!(!ok(6e-8) && !ok(-f32::from_bits(1)) && !ok(f32::NAN), "{dtype}: {expected:?}");
        }
    }
    assert!(!accepts(Expected::equal(1.0), 0.0) && !accepts(Expected::Near { value: 1.0, bound: 0.5 }, 0.0));
}

#[test]
fn where_bits_are_due_the_sign_of_zero_counts() {
    assert!(accepts(Expected::Exactly(-0.0), -0.0) && !accepts(Expected::Exactly(-0.0), 0.0));
    assert!(!accepts(Expected::Exactly(0.0), -0.0) && !accepts(Expected::Exactly(0.0), f32::from_bits(1)));
}

#[test]
fn an_absolute_error_is_allowed_where_the_table_has_one() {
    let at = NormY { y: 0.0, x_hat: 0.0, gamma: 2.0, beta: 0.0, lost: 0.0 };
    let expected = norm_y(CPU, Op::LayerNorm, DType::F32, &at);
    assert!(accepts(expected, 1.9e-6) && accepts(expected, -1.9e-6) && !accepts(expected, 2.1e-6));
    // RMSNorm subtracts nothing: 16 bits of an exact zero are a zero.
    let expected = norm_y(CPU, Op::RmsNorm, DType::F16, &at);
    assert!(expected.accept(DType::F16, 0.0).is_some() && expected.accept(DType::F16, 6e-8).is_none());
}

#[test]
fn y_of_the_pointwise_ops_has_the_ulps_of_its_backend() {
    let at = element();
    let y = at.gamma * at.f + at.beta;
    let larger = at.gamma * at.f;
    for (backend, ulps) in [(Backend::Cpu, 4.0), (Backend::Cuda, 5.0), (Backend::Wgpu, 8.0)] {
        let expected = pointwise_y(Arithmetic::of(backend), DType::F32, y, &at);
        let edge = y + ulps * ULP * larger;
        assert!(accepts(expected, f32_above(edge).next_down()), "{backend}");
        assert!(!accepts(expected, f32_above(edge)), "{backend}");
    }
}

#[test]
fn sixteen_bits_have_one_ulp_of_the_larger_term() {
    // y = 1.27 + 0.5 stays below 2: both binades are [1, 2), and an ulp of bf16 is 1/128.
    let at = element();
    let y = at.gamma * at.f + at.beta;
    let expected = pointwise_y(CPU, DType::Bf16, y, &at);
    assert_eq!(expected.parts().1, 1.0 / 128.0);
    // 1.27 + 0.9 does not: half an ulp at y and half an ulp at the larger term.
    let at = Pointwise { beta: 0.9, ..at };
    let expected = pointwise_y(CPU, DType::Bf16, at.gamma * at.f + at.beta, &at);
    assert_eq!(expected.parts().1, 1.5 / 128.0);
    // Where the terms cancel, the ulp is still that of the larger.
    let at = Pointwise { beta: -1.25, ..at };
    let expected = pointwise_y(CPU, DType::F16, at.gamma * at.f + at.beta, &at);
    assert_eq!(expected.parts().1, 1.0 / 1024.0);
}

#[test]
fn dx_of_the_pointwise_ops_grows_with_u() {
    for (op, u, ulps) in [(Op::Dyt, 0.75, 7.5), (Op::Dyt, -8.0, 22.0), (Op::Derf, 3.0, 24.0)] {
        let at = Pointwise { u, slope: 0.25, ..element() };
        let dx = at.alpha * at.dy * at.gamma * at.slope;
        let bound = ulps * ULP * dx;
        let single = pointwise_dx(CPU, op, DType::F32, dx, &at).parts();
        assert_eq!(single, (dx, bound));
        assert_eq!(pointwise_dx(CPU, op, DType::F16, dx, &at).parts().1, bound + storage_ulp(DType::F16, dx));
    }
}

#[test]
fn a_subnormal_slope_adds_a_step() {
    let at = Pointwise { u: 45.0, slope: 1e-39, ..element() };
    let dx = at.alpha * at.dy * at.gamma * at.slope;
    let expected = pointwise_dx(CPU, Op::Dyt, DType::F32, dx, &at);
    let bound = 96.0 * ULP * dx + SMALLEST_SUBNORMAL * 1.5;
    assert_eq!(expected.parts(), (dx, bound));
    assert!(!accepts(expected, 0.0));
    let vanished = Pointwise { u: 400.0, slope: 0.0, ..at };
    let expected = pointwise_dx(CPU, Op::Dyt, DType::F32, 0.0, &vanished);
    assert!(
        accepts(expected, 0.0)
            && accepts(expected, f32::from_bits(1))
            && !accepts(expected, f32::from_bits(2))
    );
}

#[test]
fn what_overflows_on_the_way_is_open() {
    let at = Pointwise { dy: 1e30, gamma: 1e30, slope: 1e-30, ..element() };
    assert_eq!(pointwise_dx(CPU, Op::Dyt, DType::F32, 1e30, &at), Expected::Anything);
    let at = Pointwise { dy: f64::INFINITY, ..element() };
    assert!(accepts(pointwise_dx(CPU, Op::Dyt, DType::F32, f64::INFINITY, &at), f32::INFINITY));
    assert!(!accepts(pointwise_dx(CPU, Op::Dyt, DType::F32, f64::INFINITY, &at), f32::NAN));
    let at = Pointwise { dy: f64::NAN, ..element() };
    assert!(!accepts(pointwise_dx(CPU, Op::Dyt, DType::F32, f64::NAN, &at), 1.0));
}

#[test]
fn norms_have_the_bounds_of_the_table() {
    let at = NormY { y: 3.5, x_hat: 1.5, gamma: 2.0, beta: 0.5, lost: 0.0 };
    let single = 1e-6 * 2.5 * 2.0 + 0.5 * ULP;
    assert_eq!(norm_y(CPU, Op::LayerNorm, DType::F32, &at).parts(), (3.5, single));
    assert_eq!(norm_y(CPU, Op::LayerNorm, DType::F16, &at).parts(), (3.5, 1.0 / 512.0));
    assert_eq!(norm_dx(CPU, DType::F32, 0.25, 2.0, 3.0, -1.5).parts(), (0.25, 4e-6 * 2.0 * 3.0 * 2.5));
    let half = norm_dx(CPU, DType::Bf16, 0.25, 2.0, 3.0, -1.5).parts().1;
    assert_eq!(half, 4e-6 * 2.0 * 3.0 * 2.5 + 1.0 / 512.0);
    assert_eq!(mean(CPU, -2.0, 5.0).parts(), (-2.0, 1e-6 * 7.0));
    assert_eq!(rstd(CPU, 4.0).parts(), (4.0, 8e-6));
    assert_eq!(sum(CPU, 3.0, 10.0, 0.0).parts(), (3.0, 1e-6 * 10.0));
}

#[test]
fn a_layer_norm_deviation_keeps_the_error_of_the_mean() {
    let at = NormY { y: 1e-7, x_hat: 1e-7, gamma: 1.0, beta: 0.0, lost: 0.0 };
    let layer = norm_y(CPU, Op::LayerNorm, DType::Bf16, &at).parts().1;
    let rms = norm_y(CPU, Op::RmsNorm, DType::Bf16, &at).parts().1;
    assert!(layer > 1e-6 && layer < 1.1e-6 && rms == storage_ulp(DType::Bf16, 1e-7), "{layer:e} {rms:e}");
}

#[test]
fn ulps_are_those_of_the_rounded_value() {
    assert_eq!(storage_ulp(DType::F32, 1.0), ULP);
    assert_eq!(storage_ulp(DType::F16, 1.999_9), 1.0 / 512.0);
    assert_eq!(storage_ulp(DType::F16, 1.9), 1.0 / 1024.0);
    assert_eq!(storage_ulp(DType::Bf16, -3.0), 1.0 / 64.0);
    assert_eq!(storage_ulp(DType::F16, 0.0), 2.0_f64.powi(-24));
    assert_eq!(storage_ulp(DType::F16, 1e9), 32.0);
    assert_eq!(storage_ulp(DType::Bf16, 1e-45), 2.0_f64.powi(-133));
    assert_eq!(storage_ulp(DType::F32, f64::INFINITY), 2.0_f64.powi(104));
}

#[test]
fn a_term_beyond_the_type_has_the_ulp_of_its_size() {
    assert_eq!(term_ulp(DType::F16, 65_504.0), 32.0);
    assert_eq!(term_ulp(DType::F16, 65_519.0), 32.0);
    assert_eq!(term_ulp(DType::F16, -70_000.0), 64.0);
    assert_eq!(term_ulp(DType::F16, 110_000.0), 64.0);
    assert_eq!(term_ulp(DType::Bf16, 1e39), 2.0_f64.powi(120));
}

#[test]
fn products_know_every_order() {
    let products = Products::of(&[1e30, 1e-20, 1e-30]);
    assert!((products.largest / 1e30 - 1.0).abs() < 1e-12 && products.smallest < 1.1e-50, "{products:?}");
    assert!(products.underflow >= SMALLEST_SUBNORMAL * 1e30);
    let products = Products::of(&[1e20, 1e20, 1e-10]);
    assert!(products.largest > LARGEST && products.smallest > SMALLEST_NORMAL, "{products:?}");
    assert_eq!(Products::of(&[2.0, -0.5, 3.0, 0.1]).underflow, 0.0);
}

#[test]
fn a_backend_that_flushes_may_lose_a_subnormal() {
    let wgpu = Arithmetic::of(Backend::Wgpu);
    let tiny = f64::from(f32::from_bits(77));
    assert!(accepts(rstd(wgpu, tiny), 0.0) && !accepts(rstd(CPU, tiny), 0.0));
    assert!(!accepts(rstd(wgpu, 1e-30), 0.0));
    assert_eq!(unfused(wgpu, Op::Derf, -1.5, 0.0, 2.0, 1.0), 4.0 * ULP);
    assert_eq!(unfused(wgpu, Op::Dyt, -1.5, 0.0, 2.0, 1.0), 0.0);
    // A subnormal x may count as 0 there, and nowhere else.
    let x = SMALLEST_NORMAL / 4.0;
    assert_eq!(unfused(wgpu, Op::Dyt, x, 0.0, 2.0, 0.0), 2.0 * x);
    assert_eq!(unfused(CPU, Op::Dyt, x, 0.0, 2.0, 0.0), 0.0);
    // What is lost of x leaves a subnormal product, which is lost too; or a normal one.
    assert_eq!(
        unfused(wgpu, Op::Dyt, 1.5 * SMALLEST_NORMAL, 0.6 * SMALLEST_NORMAL, 1.0, 0.0),
        1.5 * SMALLEST_NORMAL
    );
    assert_eq!(unfused(wgpu, Op::Dyt, 3.0 * SMALLEST_NORMAL, SMALLEST_NORMAL, 1.0, 0.0), SMALLEST_NORMAL);
    assert_eq!(CPU.underflow(SMALLEST_SUBNORMAL), SMALLEST_SUBNORMAL);
    assert_eq!(wgpu.underflow(SMALLEST_SUBNORMAL), 6.0 * SMALLEST_NORMAL);
    assert_eq!(unfused(CPU, Op::Derf, -1.5, 0.0, 2.0, 1.0), 0.0);
    // So may a subnormal dy, though every product that it is a part of is normal.
    let at = Pointwise { alpha: 1.1, gamma: 1.4, dy: 1.1e-38, u: 0.05, slope: 1.12, ..element() };
    let value = at.alpha * at.gamma * at.dy * at.slope;
    let dx = |arithmetic, dtype| pointwise_dx(arithmetic, Op::Derf, dtype, value, &at);
    for dtype in [DType::F32, DType::Bf16] {
        assert!(accepts(dx(wgpu, dtype), 0.0) && !accepts(dx(CPU, dtype), 0.0), "{dtype}");
    }
}

#[test]
fn an_exact_y_is_exact_but_for_what_is_flushed() {
    let wgpu = Arithmetic::of(Backend::Wgpu);
    let tiny = SMALLEST_NORMAL / 2.0;
    let of = |arithmetic, terms| exact_y(arithmetic, DType::F32, terms);
    // A subnormal beta, and a sum that is one.
    for terms in [[0.0, tiny], [2.0 * tiny, -3.0 * tiny]] {
        let sum = (terms[0] + terms[1]) as f32;
        assert!(accepts(of(wgpu, terms), sum) && accepts(of(wgpu, terms), 0.0), "{terms:?}");
        assert!(accepts(of(CPU, terms), sum) && !accepts(of(CPU, terms), 0.0), "{terms:?}");
    }
    // A term that is lost beside one that is not.
    let terms = [4.0 * tiny, tiny];
    assert!(accepts(of(wgpu, terms), (4.0 * tiny) as f32) && !accepts(of(wgpu, terms), 0.0));
    // Nothing is lost of normal terms.
    for arithmetic in [CPU, wgpu] {
        let expected = of(arithmetic, [1.0, 0.5]);
        assert!(accepts(expected, 1.5) && !accepts(expected, 1.5_f32.next_up()));
    }
}
