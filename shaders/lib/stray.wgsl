// Rows that stray: f32 does not hold their squares. Such a row is done again with x scaled by a power of two, so that its
// values are about 1. Lanes whose row does not stray take part in the sums, with `end` 0.

struct Scaled {
    scale: f32,
    eps: f32,
    // The origin of deviations.
    m: f32,
}

// 2^k for k from -126 to 127.
fn power_of_two(k: i32) -> f32 {
    return bitcast<f32>(u32(k + 127) << 23u);
}

fn inverse_power(power: f32) -> f32 {
    return bitcast<f32>((254u << 23u) - bitcast<u32>(power));
}

// The power of two that brings the mean of |x|, or eps where it is more, to about 1; 1 for rows that no factor helps.
fn scale_of(begin: u32, end: u32, index: u32) -> f32 {
    var sizes = vec4<f32>();
    for (var at = walk_begin(index); at < end; at += walk_step()) {
        let v = walk_x(begin, at);
        for (var k = 0u; k < walk_width(at); k++) {
            sizes += vec4<f32>(abs(v[k]) * 0x1p-32f, abs(v[k]) * 0x1p64f, 0.0, 0.0);
        }
    }
    sizes = walk_sum(sizes, index);
    let eps = select(sqrt(params.eps), params.eps, has(UNBIASED));
    let small = average(sizes.y) + eps * 0x1p64f;
    // By bits, as in `strays`.
    let up = bitcast<u32>(small) < bitcast<u32>(0x1p100f);
    let size = select(average(sizes.x) + eps * 0x1p-32f, small, up);
    let exponent = i32(bitcast<u32>(size) >> 23u);
    if exponent == 0 || exponent >= 255 {
        return 1.0;
    }
    return power_of_two(clamp(select(-32, 64, up) + 127 - exponent, -126, 126));
}

fn scaled_row(begin: u32, end: u32, index: u32) -> Scaled {
    let scale = scale_of(begin, end, index);
    let eps = select(params.eps * scale * scale, params.eps * scale, has(UNBIASED));
    if !CENTER {
        return Scaled(scale, eps, 0.0);
    }
    var first = 0.0;
    if end > 0u {
        first = walk_x(begin, 0u)[0];
    }
    var cascade = Cascade();
    for (var at = walk_begin(index); at < end; at += walk_step()) {
        let v = walk_x(begin, at);
        var part = vec2<f32>();
        for (var k = 0u; k < walk_width(at); k++) {
            let d = v[k] * scale - first * scale;
            part += vec2<f32>(d, abs(d));
        }
        add_to_cascade(&cascade, vec4<f32>(part, 0.0, 0.0));
    }
    let sums = walk_sum(cascade_sum(cascade), index);
    // Equal values need no scale, and f32 may not hold eps times its square.
    if bitcast<u32>(sums.y) == 0u {
        return Scaled(1.0, params.eps, first);
    }
    return Scaled(scale, eps, first * scale + average(sums.x));
}
