// The backward of a norm on channels-first data: a workgroup takes `steps` tiles of positions, one after the other.

// `again` is the same for the whole workgroup.
fn first_slope(scaled: Scaled, again: bool, at: Position, index: u32) -> Slope {
    let x_begin = params.x_start + at.begin.x;
    let dy_begin = params.dy_start + at.begin.y;
    var m = 0.0;
    if CENTER {
        if again || !has(HAS_MEAN) {
            m = first_origin(x_begin, scaled.scale, at.line, index);
        }
        if has(HAS_MEAN) && !scaled.again && at.live {
            m = mean[params.mean_start + at.row];
        }
    }
    var cascade = Cascade();
    for (var c = at.line; c < params.cols; c += FIRST_STEPS * LINES) {
        var part = vec4<f32>();
        for (var column = c; column < min(params.cols, c + FIRST_STEPS * LINES); column += LINES) {
            let element = column * params.inner;
            let x = unpack(x_block(x_begin + element));
            let dy = unpack(dy_block(dy_begin + element));
            part += terms_of(x, dy, 1u, gamma_at(at.columns + column), scaled.scale, m);
        }
        add_to_cascade(&cascade, part);
    }
    return slope_of(scaled, m, line_sum(cascade_sum(cascade), index), at.row, at.live);
}

// dx of a column of a position; its terms in dgamma and dbeta.
fn finish_column(slope: Slope, at: Position, column: u32, reads_x: bool) -> vec2<f32> {
    if !at.live || column >= params.cols {
        return vec2<f32>();
    }
    let element = at.begin + column * params.inner;
    let dy = unpack(dy_block(params.dy_start + element.y))[0];
    var x_hat = 0.0;
    if reads_x {
        x_hat = x_hat_of(slope.affine, unpack(x_block(params.x_start + element.x))[0]);
    }
    if has(HAS_DX) {
        store_dx(element.x, Values(dx_of(slope, dy * gamma_at(at.columns + column)[0], x_hat)));
    }
    return vec2<f32>(dy * x_hat, dy);
}

// Adds up the terms of four columns over the positions of a line, and adds them to the partial sums of the chunk.
fn add_columns(of_gamma: vec4<f32>, of_beta: vec4<f32>, chunk: u32, base: u32, index: u32, begins: bool) {
    workgroupBarrier();
    scratch[index] = of_gamma;
    folded[index] = of_beta;
    workgroupBarrier();
    let line = index / ALONG;
    if index % ALONG > 1u {
        return;
    }
    let gammas = index % ALONG == 0u;
    if !has(select(HAS_DBETA, HAS_DGAMMA, gammas)) {
        return;
    }
    var total = vec4<f32>();
    for (var first = line * ALONG; first < (line + 1u) * ALONG; first += 8u) {
        var part = vec4<f32>();
        for (var i = 0u; i < 8u; i++) {
            part += select(folded[first + i], scratch[first + i], gammas);
        }
        total += part;
    }
    let first_sum = sums_of_chunk(chunk) + select(params.dbeta_at, 0u, gammas);
    for (var q = 0u; q < 4u; q++) {
        let column = base + q * LINES + line;
        if column < params.cols {
            add_to_sum(first_sum + column, total[q], begins);
        }
    }
}

fn run(workgroup: u32, index: u32) {
    let reads_x = has(HAS_DX) || has(HAS_DGAMMA);
    let tiles = (params.inner + ALONG - 1u) / ALONG;
    // Chunks of one row of the tensor, so that each may be bound by itself; 0 where a chunk has whole rows.
    let chunks = params.slabs;
    var begin: u32;
    var end: u32;
    if chunks > 0u {
        let n = workgroup / chunks;
        begin = n * tiles + (workgroup - n * chunks) * params.steps;
        end = min((n + 1u) * tiles, begin + params.steps);
    } else {
        let rows = chunk_of(workgroup, params.steps / tiles);
        begin = rows.first * tiles;
        end = rows.end * tiles;
    }
    for (var tile = begin; tile < end; tile++) {
        let at = position_of(tile, index);
        var slope = no_slope();
        var scaled = unscaled();
        var again = false;
        while reads_x {
            slope = first_slope(scaled, again, at, index);
            if again || !any_of_workgroup(slope.affine.stray && at.live, index) {
                break;
            }
            again = true;
            // As in the forward.
            let of_stray = first_scaled(params.x_start + at.begin.x, at.line, index);
            if slope.affine.stray {
                scaled = of_stray;
            }
        }
        for (var base = 0u; base < params.cols; base += 4u * LINES) {
            var of_gamma = vec4<f32>();
            var of_beta = vec4<f32>();
            for (var q = 0u; q < 4u; q++) {
                let column = base + q * LINES + at.line;
                let terms = finish_column(slope, at, column, reads_x);
                of_gamma[q] = terms.x;
                of_beta[q] = terms.y;
            }
            if has(HAS_DGAMMA) || has(HAS_DBETA) {
                add_columns(of_gamma, of_beta, workgroup, base, index, tile == begin);
            }
        }
    }
}
