// What turns the sums of a row into its statistics. Deviations are taken from an origin m near the mean, and what
// rounding took from m is given back: with d = x - m and c = sum(d)/cols the variance is sum(d^2)/cols - c^2, and
// x^ = (d - c) rstd. RMSNorm (CENTER false) has m = c = 0.

// Components of the sums of a row: d^2, d, h d and h, of which a forward needs the first two.
const SQUARES = 0;
const DEVIATIONS = 1;
const PRODUCTS = 2;
const GRADIENTS = 3;

// x is multiplied by a power of two before anything else, by 1 unless the row strays; eps goes with it.
struct Scaled {
    scale: f32,
    eps: f32,
    // Whether the row is done again. Then saved statistics are not read: rstd may be beyond f32.
    again: bool,
}

// x^ = (x scale - m) rstd + shift, where shift = -c rstd.
struct Affine {
    scale: f32,
    m: f32,
    c: f32,
    rstd: f32,
    shift: f32,
    // The squares overflow or underflow f32: the row is done again, scaled as lib/stray.wgsl says.
    stray: bool,
}

// dx = (h rstd - (x^ along + level)) scale.
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

fn unscaled() -> Scaled {
    return Scaled(1.0, params.eps, false);
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
fn affine_of(scaled: Scaled, m: f32, sums: vec4<f32>) -> Affine {
    let c = select(0.0, average(sums[DEVIATIONS]), CENTER);
    let of_row = rstd_with(variance_of(sums[SQUARES], c), scaled.eps);
    return Affine(scaled.scale, m, c, of_row, -(c * of_row), strays(sums[SQUARES], 0.0));
}

fn x_hat_of(affine: Affine, x: f32) -> f32 {
    if CENTER {
        return (x * affine.scale - affine.m) * affine.rstd + affine.shift;
    }
    return x * affine.scale * affine.rstd;
}

// The same with what dx needs; `row` is the row whose statistics may have been saved.
fn slope_of(scaled: Scaled, m: f32, sums: vec4<f32>, row: u32, live: bool) -> Slope {
    let c = select(0.0, average(sums[DEVIATIONS]), CENTER);
    let variance = variance_of(sums[SQUARES], c);
    var of_row = 0.0;
    if scaled.again || !has(HAS_RSTD) {
        of_row = rstd_with(variance, scaled.eps);
    } else if live {
        of_row = rstd[params.rstd_start + row];
    }
    let h = select(0.0, sums[GRADIENTS], CENTER);
    let dot = of_row * (sums[PRODUCTS] - c * h);
    let along = of_row * projection(dot, variance, of_row);
    let affine = Affine(scaled.scale, m, c, of_row, -(c * of_row), strays(sums[SQUARES], along));
    return Slope(affine, of_row * average(h), along);
}

// Of rows whose x is not read.
fn no_slope() -> Slope {
    return Slope(Affine(1.0, 0.0, 0.0, 0.0, 0.0, false), 0.0, 0.0);
}

fn dx_of(slope: Slope, h: f32, x_hat: f32) -> f32 {
    return (h * slope.affine.rstd - (x_hat * slope.along + slope.level)) * slope.affine.scale;
}
