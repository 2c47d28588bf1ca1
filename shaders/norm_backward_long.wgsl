// The backward of a norm whose rows are longer than registers hold: a workgroup takes `steps` rows, one after the
// other, and adds what each gives to dgamma and dbeta to the partial sums of its chunk.

// `again` is the same for the whole workgroup.
fn long_slope(scaled: Scaled, again: bool, row: u32, x_begin: u32, dy_begin: u32, index: u32) -> Slope {
    var m = 0.0;
    if CENTER {
        if again || !has(HAS_MEAN) {
            m = long_origin(x_begin, scaled.scale, index);
        } else {
            m = mean[params.mean_start + row];
        }
    }
    let blocks = row_blocks();
    var cascade = Cascade();
    for (var tile = 0u; tile < blocks; tile += COUNT * 256u) {
        var of_x: array<Block, COUNT>;
        var of_dy: array<Block, COUNT>;
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                of_x[i] = row_x(x_begin, at);
                of_dy[i] = row_dy(dy_begin, at);
            }
        }
        var part = vec4<f32>();
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                let of_gamma = gamma_at(at * WIDTH);
                part += terms_of(unpack(of_x[i]), unpack(of_dy[i]), width_of(at), of_gamma, scaled.scale, m);
            }
        }
        add_to_cascade(&cascade, part);
    }
    return slope_of(scaled, m, team_sum(cascade_sum(cascade), index, 256u), row, true);
}

fn add_to_sums(chunk: u32, block: u32, of_gamma: Values, of_beta: Values, begins: bool) {
    let at = sums_of_chunk(chunk) + block * WIDTH;
    for (var k = 0u; k < width_of(block); k++) {
        if has(HAS_DGAMMA) {
            add_to_sum(at + k, of_gamma[k], begins);
        }
        if has(HAS_DBETA) {
            add_to_sum(at + params.dbeta_at + k, of_beta[k], begins);
        }
    }
}

fn run(workgroup: u32, index: u32) {
    let reads_x = has(HAS_DX) || has(HAS_DGAMMA);
    let begin_row = workgroup * params.steps;
    let end_row = min(params.rows, begin_row + params.steps);
    let blocks = row_blocks();
    for (var row = begin_row; row < end_row; row++) {
        let begin = row * params.row_stride;
        let x_begin = params.x_start + begin;
        let dy_begin = params.dy_start + begin;
        var slope = no_slope();
        var scaled = unscaled();
        var again = false;
        while reads_x {
            slope = long_slope(scaled, again, row, x_begin, dy_begin, index);
            if again || !agreed(slope.affine.stray, index) {
                break;
            }
            again = true;
            scaled = long_scaled(x_begin, index);
        }
        for (var at = index; at < blocks; at += 256u) {
            let dy = unpack(row_dy(dy_begin, at));
            var x: Values;
            if reads_x {
                x = unpack(row_x(x_begin, at));
            }
            let of_gamma = gamma_at(at * WIDTH);
            var products: Values;
            var dx: Values;
            for (var k = 0u; k < WIDTH; k++) {
                let x_hat = x_hat_of(slope.affine, x[k]);
                products[k] = dy[k] * x_hat;
                dx[k] = dx_of(slope, dy[k] * of_gamma[k], x_hat);
            }
            add_to_sums(workgroup, at, products, dy, row == begin_row);
            if has(HAS_DX) {
                store_dx(begin, at, dx);
            }
        }
    }
}
