// What every forward of a norm does with the statistics of a row.

fn save_statistics(row: u32, affine: Affine) {
    if CENTER && has(HAS_MEAN) {
        mean[params.mean_start + row] = affine.m + affine.c;
    }
    if has(HAS_RSTD) {
        rstd[params.rstd_start + row] = affine.rstd;
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
