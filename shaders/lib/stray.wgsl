// Rows that stray: f32 does not hold their squares. Such a row is done again with x scaled by a power of two, so that its
// values are about 1.

// 2^k for k from -126 to 127.
fn power_of_two(k: i32) -> f32 {
    return bitcast<f32>(u32(k + 127) << 23u);
}

// |v| 2^-32. By its bits: of products a compiler may add the factors and multiply once, and such a sum overflows.
fn shrunk(v: f32) -> f32 {
    let bits = bitcast<u32>(v) & 0x7fffffffu;
    return bitcast<f32>(select(max(bits, 0x10000000u) - 0x10000000u, bits, bits >= 0x7f800000u));
}

// What decides the scale of a row, of the first `width` values of a block: the sum of |x| in two units, and how many
// differ from the first value of the row.
fn sizes_of(v: Values, width: u32, first: f32) -> vec4<f32> {
    var sizes = vec4<f32>();
    for (var k = 0u; k < width; k++) {
        let differs = f32(bitcast<u32>(v[k]) != bitcast<u32>(first));
        sizes += vec4<f32>(shrunk(v[k]), abs(v[k]) * 0x1p64f, differs, 0.0);
    }
    return sizes;
}

// The power of two that brings the mean of |x|, or eps where it is more, to about 1; 1 for rows that no factor helps.
fn scale_by(sizes: vec4<f32>) -> f32 {
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

fn scaled_by(sizes: vec4<f32>) -> Scaled {
    // Equal values need no scale, and f32 may not hold eps times its square.
    if CENTER && sizes.z == 0.0 {
        return Scaled(1.0, params.eps, true);
    }
    let scale = scale_by(sizes);
    return Scaled(scale, select(params.eps * scale * scale, params.eps * scale, has(UNBIASED)), true);
}
