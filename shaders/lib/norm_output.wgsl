// What every forward of a norm does with the statistics of a row.

fn inverse_power(power: f32) -> f32 {
    return bitcast<f32>((254u << 23u) - bitcast<u32>(power));
}

fn save_statistics(row: u32, affine: Affine) {
    if CENTER && has(HAS_MEAN) {
        let up = inverse_power(affine.scale);
        mean[params.mean_start + row] = affine.m * up + affine.c * up;
    }
    if has(HAS_RSTD) {
        rstd[params.rstd_start + row] = affine.rstd * affine.scale;
    }
}

// y of the values of a block.
fn normalized(x: Values, affine: Affine, of_gamma: Values, of_beta: Values) -> Values {
    var y: Values;
    for (var k = 0u; k < WIDTH; k++) {
        y[k] = x_hat_of(affine, x[k]) * of_gamma[k] + of_beta[k];
    }
    return y;
}
