// The backward of a norm whose rows are longer than registers hold: a workgroup takes `steps` rows, one after the
// other, and adds what each gives to dgamma and dbeta to the partial sums of its chunk.

// A row, and where it begins in x, in dy and in gamma.
struct LongRow {
    row: u32,
    x_begin: u32,
    dy_begin: u32,
    columns: u32,
}

// `again` is the same for the whole workgroup.
fn long_slope(scaled: Scaled, again: bool, at_row: LongRow, index: u32) -> Slope {
    let x_begin = at_row.x_begin;
    var m = 0.0;
    if CENTER {
        if again || !has(HAS_MEAN) {
            m = long_origin(x_begin, scaled.scale, index);
        } else {
            m = mean[params.mean_start + at_row.row];
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
                of_dy[i] = row_dy(at_row.dy_begin, at);
            }
        }
        var part = vec4<f32>();
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                let of_gamma = gamma_at(at_row.columns + at * WIDTH);
                part += terms_of(unpack(of_x[i]), unpack(of_dy[i]), width_of(at), of_gamma, scaled.scale, m);
            }
        }
        add_to_cascade(&cascade, part);
    }
    return slope_of(scaled, m, team_sum(cascade_sum(cascade), index, 256u), at_row.row, true);
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
    let rows = chunk_of(workgroup, params.steps);
    let columns = columns_of(rows.first);
    let blocks = row_blocks();
    for (var row = rows.first; row < rows.end; row++) {
        let begin = begins(row);
        let at_row = LongRow(row, params.x_start + begin.x, params.dy_start + begin.y, columns);
        var slope = no_slope();
        var scaled = unscaled();
        var again = false;
        while reads_x {
            slope = long_slope(scaled, again, at_row, index);
            if again || !agreed(slope.affine.stray, index) {
                break;
            }
            again = true;
            scaled = long_scaled(at_row.x_begin, index);
        }
        for (var at = index; at < blocks; at += 256u) {
            let dy = unpack(row_dy(at_row.dy_begin, at));
            var x: Values;
            if reads_x {
                x = unpack(row_x(at_row.x_begin, at));
            }
            let of_gamma = gamma_at(columns + at * WIDTH);
            var products: Values;
            var dx: Values;
            for (var k = 0u; k < WIDTH; k++) {
                let x_hat = x_hat_of(slope.affine, x[k]);
                products[k] = dy[k] * x_hat;
                dx[k] = dx_of(slope, dy[k] * of_gamma[k], x_hat);
            }
            add_to_sums(workgroup, at, products, dy, row == rows.first);
            if has(HAS_DX) {
                store_dx(begin.x, at, dx);
            }
        }
    }
}
