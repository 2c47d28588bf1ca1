// The terms of the first `width` values of a block in the sums of a row that a backward of a norm needs.
fn terms_of(x: Values, dy: Values, width: u32, of_gamma: Values, scale: f32, m: f32) -> vec4<f32> {
    var sums = vec4<f32>();
    for (var k = 0u; k < width; k++) {
        let d = x[k] * scale - m;
        let h = dy[k] * of_gamma[k];
        sums += vec4<f32>(d * d, d, h * d, h);
    }
    return sums;
}

// Where the partial sums of a chunk begin: those of dgamma, and `dbeta_at` behind them those of dbeta.
fn sums_of_chunk(chunk: u32) -> u32 {
    return params.sums_start + chunk * params.record;
}

// Adds to a partial sum, or begins it.
fn add_to_sum(at: u32, term: f32, begins: bool) {
    if begins {
        sums[at] = term;
    } else {
        sums[at] += term;
    }
}
