// y of a row that strays, and its statistics.
fn stray_forward(row: u32, begin: u32, target_begin: u32, end: u32, index: u32) {
    let scaled = scaled_row(begin, end, index);
    var cascade = Cascade();
    for (var at = walk_begin(index); at < end; at += walk_step()) {
        let v = walk_x(begin, at);
        var part = vec4<f32>();
        for (var k = 0u; k < walk_width(at); k++) {
            let d = v[k] * scaled.scale - scaled.m;
            part += vec4<f32>(d * d, d, 0.0, 0.0);
        }
        add_to_cascade(&cascade, part);
    }
    let sums = walk_sum(cascade_sum(cascade), index);
    let c = select(0.0, average(sums[DEVIATIONS]), CENTER);
    let scaled_rstd = rstd_with(variance_of(sums[SQUARES], c), scaled.eps);
    let affine = Affine(scaled.m, c, scaled_rstd, -(c * scaled_rstd), false);
    if end > 0u && walk_begin(index) == 0u {
        let up = inverse_power(scaled.scale);
        save_statistics(row, Affine(affine.m * up, affine.c * up, affine.rstd * scaled.scale, 0.0, false));
    }
    // In place this overwrites x, of which every lane reads its own blocks alone.
    for (var at = walk_begin(index); at < end; at += walk_step()) {
        let v = walk_x(begin, at);
        let of_gamma = gamma_at(walk_column(at));
        let of_beta = beta_at(walk_column(at));
        var y: Values;
        for (var k = 0u; k < WIDTH; k++) {
            y[k] = x_hat_of(affine, v[k] * scaled.scale) * of_gamma[k] + of_beta[k];
        }
        walk_store(target_begin, at, y);
    }
}
