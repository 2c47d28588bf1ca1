// tanh, erf and their derivatives in f32. docs/math.md has the formulas and the largest errors.
//
// WGSL promises little: no fused multiply-add, division within 2.5 ulp, no NaN, no infinity, subnormals perhaps 0. So
// NaN, infinity and the sign are handled in the bits, and what comes to the arithmetic is finite and in range. Nothing
// depends on (x + c) - c, which a driver may shorten.

// <coefficients> by docs/fit/gpu.py
// (tanh a / a - 1)/a^2 in powers of a^2, a up to 0.65.
const TANH_NEAR_0: f32 = -3.333327e-01;
const TANH_NEAR_1: f32 = 1.3330968e-01;
const TANH_NEAR_2: f32 = -5.3696617e-02;
const TANH_NEAR_3: f32 = 2.0493547e-02;
const TANH_NEAR_4: f32 = -5.5395253e-03;
// erf a / a - 1 in powers of a^2, a up to 0.6.
const ERF_NEAR_0: f32 = 1.2837917e-01;
const ERF_NEAR_1: f32 = -3.7612638e-01;
const ERF_NEAR_2: f32 = 1.12837225e-01;
const ERF_NEAR_3: f32 = -2.685772e-02;
const ERF_NEAR_4: f32 = 5.1775197e-03;
const ERF_NEAR_5: f32 = -7.357727e-04;
// log2(1 - erf a) in powers of a, a from 0.6 to 3.95.
const LOG2_ERFC_0: f32 = 1.11187765e-04;
const LOG2_ERFC_1: f32 = -1.6287864e+00;
const LOG2_ERFC_2: f32 = -9.1544086e-01;
const LOG2_ERFC_3: f32 = -1.5411636e-01;
const LOG2_ERFC_4: f32 = 3.4737885e-02;
const LOG2_ERFC_5: f32 = -5.390251e-03;
const LOG2_ERFC_6: f32 = 4.8529313e-04;
const LOG2_ERFC_7: f32 = -1.7145903e-05;
// (2^r - 1)/r in powers of r, |r| <= 1/2.
const EXP2_NEAR_0: f32 = 6.931472e-01;
const EXP2_NEAR_1: f32 = 2.4022648e-01;
const EXP2_NEAR_2: f32 = 5.5503324e-02;
const EXP2_NEAR_3: f32 = 9.618437e-03;
const EXP2_NEAR_4: f32 = 1.3398876e-03;
const EXP2_NEAR_5: f32 = 1.5353363e-04;
// </coefficients>

// From here on tanh is more than 1/2, so that 1 - (1 - tanh) loses nothing; below it is a polynomial.
const TANH_NEAR_END: f32 = 0.65;
// The same of erf.
const ERF_NEAR_END: f32 = 0.6;
// Bits of 9.25, from where on tanh is 1.
const TANH_END: u32 = 0x41140000u;
// Bits of 44.375, from where on tanh' is below the normal numbers.
const TANH_SLOPE_END: u32 = 0x42318000u;
// Bits of 3.95, from where on erf is 1.
const ERF_END: u32 = 0x407ccccdu;
// Bits of 9.375, from where on erf' is below the normal numbers.
const ERF_SLOPE_END: u32 = 0x41160000u;
const LOG2_E: f32 = 1.44269504;
// ln 2 to 15 bits, so that its product with a whole number below 2^9 is exact.
const LN2_HIGH: f32 = 0.69314575;
// ln 2 - LN2_HIGH.
const LN2_LOW: f32 = 1.4286068e-6;
const TWO_OVER_SQRT_PI: f32 = 1.12837917;
const MAGNITUDE: u32 = 0x7fffffffu;
const SIGN: u32 = 0x80000000u;
const INFINITE: u32 = 0x7f800000u;

// |u|, but no more than the float with the bits `end`; NaN becomes that too.
fn magnitude_up_to(u: f32, end: u32) -> f32 {
    return bitcast<f32>(min(bitcast<u32>(u) & MAGNITUDE, end));
}

// `f`, which is f(|u|), with the sign of u; NaN where u is NaN.
fn odd_result(f: f32, u: f32) -> f32 {
    let bits = bitcast<u32>(u);
    let result = (bitcast<u32>(f) & MAGNITUDE) | (bits & SIGN);
    return bitcast<f32>(select(result, bits, (bits & MAGNITUDE) > INFINITE));
}

// `slope`, which is f'(|u|), but 0 beyond `end`, and NaN where u is NaN.
fn slope_result(slope: f32, u: f32, end: u32) -> f32 {
    let bits = bitcast<u32>(u);
    let finite = select(bitcast<u32>(slope), 0u, (bits & MAGNITUDE) > end);
    return bitcast<f32>(select(finite, bits, (bits & MAGNITUDE) > INFINITE));
}

// c 2^(n + r) for a whole number n from -126 to 127 and |r| <= 1/2; 0 for n = -127. Only the last operation can be
// subnormal.
fn exp2_times(c: f32, n: f32, r: f32) -> f32 {
    var p = EXP2_NEAR_5 * r + EXP2_NEAR_4;
    p = p * r + EXP2_NEAR_3;
    p = p * r + EXP2_NEAR_2;
    p = p * r + EXP2_NEAR_1;
    p = p * r + EXP2_NEAR_0;
    return bitcast<f32>(u32(i32(n) + 127) << 23u) * (c * (p * r + 1.0));
}

// 2^(x + up) for x + up from -126.5 to 127.
fn exp2_up(x: f32, up: f32) -> f32 {
    let n = floor(x + 0.5);
    return exp2_times(1.0, n + up, x - n);
}

// tanh a near 0.
fn tanh_near(a: f32) -> f32 {
    let z = a * a;
    var p = TANH_NEAR_4 * z + TANH_NEAR_3;
    p = p * z + TANH_NEAR_2;
    p = p * z + TANH_NEAR_1;
    p = p * z + TANH_NEAR_0;
    return a * z * p + a;
}

// tanh |u|, given e = e^(-2|u|).
fn tanh_by_exp(a: f32, e: f32) -> f32 {
    return select(1.0 - 2.0 * e / (1.0 + e), tanh_near(a), a < TANH_NEAR_END);
}

// tanh u.
fn tanh_dyt(u: f32) -> f32 {
    let a = magnitude_up_to(u, TANH_END);
    return odd_result(tanh_by_exp(a, exp2_up(a * (-2.0 * LOG2_E), 0.0)), u);
}

// tanh u and 1 - tanh^2 u = 4e/(1 + e)^2.
fn tanh_both(u: f32) -> vec2<f32> {
    let a = magnitude_up_to(u, TANH_SLOPE_END);
    // Four times as large, e is normal wherever the slope is.
    let e4 = exp2_up(a * (-2.0 * LOG2_E), 2.0);
    let e = 0.25 * e4;
    let d = 1.0 + e;
    return vec2<f32>(odd_result(tanh_by_exp(a, e), u), slope_result(e4 / (d * d), u, TANH_SLOPE_END));
}

// erf a near 0.
fn erf_near(a: f32) -> f32 {
    let z = a * a;
    var p = ERF_NEAR_5 * z + ERF_NEAR_4;
    p = p * z + ERF_NEAR_3;
    p = p * z + ERF_NEAR_2;
    p = p * z + ERF_NEAR_1;
    p = p * z + ERF_NEAR_0;
    return a * p + a;
}

// erf u = 1 - 2^log2(1 - erf u), but a polynomial near 0.
fn erf_derf(u: f32) -> f32 {
    let a = magnitude_up_to(u, ERF_END);
    var x = LOG2_ERFC_7 * a + LOG2_ERFC_6;
    x = x * a + LOG2_ERFC_5;
    x = x * a + LOG2_ERFC_4;
    x = x * a + LOG2_ERFC_3;
    x = x * a + LOG2_ERFC_2;
    x = x * a + LOG2_ERFC_1;
    x = x * a + LOG2_ERFC_0;
    return odd_result(select(1.0 - exp2_up(x, 0.0), erf_near(a), a < ERF_NEAR_END), u);
}

// 2/sqrt(pi) exp(-u^2).
fn erf_slope(u: f32) -> f32 {
    let a = magnitude_up_to(u, ERF_SLOPE_END);
    // a^2 in two parts, the first exact: rounded once it would cost 43 ulp of the result at u = 9.3.
    let upper = bitcast<f32>(bitcast<u32>(a) & 0xfffff000u);
    let high = upper * upper;
    let low = (a - upper) * (a + upper);
    let n = floor(high * -LOG2_E + 0.5);
    let r = ((-high - n * LN2_HIGH) - n * LN2_LOW) - low;
    return slope_result(exp2_times(TWO_OVER_SQRT_PI, n, r * LOG2_E), u, ERF_SLOPE_END);
}

// erf u and 2/sqrt(pi) exp(-u^2).
fn erf_both(u: f32) -> vec2<f32> {
    return vec2<f32>(erf_derf(u), erf_slope(u));
}
