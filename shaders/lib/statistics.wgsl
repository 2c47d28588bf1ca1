// What turns the sums of a row into its statistics. Deviations are taken from an origin m near the mean, and what
// rounding took from m is given back: with d = x - m and c = sum(d)/cols the variance is sum(d^2)/cols - c^2, and
// x^ = (d - c) rstd. RMSNorm (CENTER false) has m = c = 0.

// Components of the sums of a row: d^2, d, h d and h, of which a forward needs the first two.
const SQUARES = 0;
const DEVIATIONS = 1;
const PRODUCTS = 2;
const GRADIENTS = 3;

// x^ = (x - m) rstd + shift, where shift = -c rstd.
struct Affine {
    m: f32,
    c: f32,
    rstd: f32,
    shift: f32,
    // The squares overflow or underflow f32: lib/stray.wgsl computes the row again.
    stray: bool,
}

// dx = h rstd - (x^ along + level).
struct Slope {
    affine: Affine,
    level: f32,
    along: f32,
}

fn average(sum: f32) -> f32 {
    return sum / f32(params.cols);
}

// 0 instead of a negative number, which is rounding; NaN passes, tested by its bits.
fn not_negative(v: f32) -> f32 {
    let bits = bitcast<u32>(v);
    return select(v, 0.0, bits >= 0x80000000u && bits <= 0xff800000u);
}

fn variance_of(squares: f32, c: f32) -> f32 {
    return not_negative(average(squares) - c * c);
}

fn unbiased_std(variance: f32) -> f32 {
    let cols = f32(params.cols);
    return sqrt(variance * (cols / (cols - 1.0)));
}

fn rstd_with(variance: f32, eps: f32) -> f32 {
    var rstd: f32;
    if has(UNBIASED) {
        rstd = 1.0 / (unbiased_std(variance) + eps);
    } else {
        rstd = 1.0 / sqrt(variance + eps);
    }
    // An adapter may take a subnormal eps for 0; a row of equal values then had infinity for its rstd and NaN for y.
    return select(rstd, params.largest_rstd, bitcast<u32>(rstd) == 0x7f800000u);
}

fn rstd_of(variance: f32) -> f32 {
    return rstd_with(variance, params.eps);
}

// Whether f32 does not hold the squares of a row, by their sum; `other` is what else has to be finite. Tested by bits: a
// compiler may assume that neither infinity nor NaN occurs.
fn strays(squares: f32, other: f32) -> bool {
    let bits = bitcast<u32>(squares);
    let infinite = (bitcast<u32>(other) & 0x7f800000u) == 0x7f800000u;
    return infinite || bits < bitcast<u32>(params.least_squares) || bits >= 0x7f800000u;
}

// The factor of x^ in dx/rstd from the sum of h x^; in the unbiased form 0 where std is, as its derivative is there.
fn projection(dot: f32, variance: f32, scale: f32) -> f32 {
    if !has(UNBIASED) {
        return average(dot);
    }
    let deviation = unbiased_std(variance);
    return select(dot / ((f32(params.cols) - 1.0) * (deviation * scale)), 0.0, bitcast<u32>(deviation) == 0u);
}

// From the sums of a row around the origin m.
fn affine_of(m: f32, sums: vec4<f32>) -> Affine {
    let c = select(0.0, average(sums[DEVIATIONS]), CENTER);
    let scale = rstd_of(variance_of(sums[SQUARES], c));
    return Affine(m, c, scale, -(c * scale), strays(sums[SQUARES], 0.0));
}

fn x_hat_of(affine: Affine, x: f32) -> f32 {
    if CENTER {
        return (x - affine.m) * affine.rstd + affine.shift;
    }
    return x * affine.rstd;
}

// The same with what dx needs; `row` is the row whose statistics may have been saved.
fn slope_of(m: f32, sums: vec4<f32>, row: u32, live: bool) -> Slope {
    let c = select(0.0, average(sums[DEVIATIONS]), CENTER);
    let variance = variance_of(sums[SQUARES], c);
    var scale = 0.0;
    if !has(HAS_RSTD) {
        scale = rstd_of(variance);
    } else if live {
        scale = rstd[params.rstd_start + row];
    }
    var slope = slope_with(m, c, variance, scale, sums);
    slope.affine.stray = strays(sums[SQUARES], slope.along);
    return slope;
}

fn slope_with(m: f32, c: f32, variance: f32, scale: f32, sums: vec4<f32>) -> Slope {
    let h = select(0.0, sums[GRADIENTS], CENTER);
    let dot = scale * (sums[PRODUCTS] - c * h);
    let affine = Affine(m, c, scale, -(c * scale), false);
    return Slope(affine, scale * average(h), scale * projection(dot, variance, scale));
}

fn dx_of(slope: Slope, h: f32, x_hat: f32) -> f32 {
    return h * slope.affine.rstd - (x_hat * slope.along + slope.level);
}
