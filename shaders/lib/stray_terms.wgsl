// The slope of a scaled row: x^ is taken of x * scale, and dx is scale times what the slope gives. Saved statistics are
// not read: rstd may be beyond f32.
struct ScaledSlope {
    scale: f32,
    slope: Slope,
}

// dx of an element of such a row.
fn stray_dx(scaled: ScaledSlope, h: f32, x_hat: f32) -> f32 {
    return dx_of(scaled.slope, h, x_hat) * scaled.scale;
}

fn stray_x_hat(scaled: ScaledSlope, x: f32) -> f32 {
    return x_hat_of(scaled.slope.affine, x * scaled.scale);
}

fn scaled_slope(x_begin: u32, dy_begin: u32, end: u32, index: u32) -> ScaledSlope {
    let scaled = scaled_row(x_begin, end, index);
    var cascade = Cascade();
    for (var at = walk_begin(index); at < end; at += walk_step()) {
        let x = walk_x(x_begin, at);
        let dy = walk_dy(dy_begin, at);
        let of_gamma = gamma_at(walk_column(at));
        var part = vec4<f32>();
        for (var k = 0u; k < walk_width(at); k++) {
            let d = x[k] * scaled.scale - scaled.m;
            let h = dy[k] * of_gamma[k];
            part += vec4<f32>(d * d, d, h * d, h);
        }
        add_to_cascade(&cascade, part);
    }
    let sums = walk_sum(cascade_sum(cascade), index);
    let c = select(0.0, average(sums[DEVIATIONS]), CENTER);
    let variance = variance_of(sums[SQUARES], c);
    return ScaledSlope(scaled.scale, slope_with(scaled.m, c, variance, rstd_with(variance, scaled.eps), sums));
}
