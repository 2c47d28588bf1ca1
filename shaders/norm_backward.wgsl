// The backward of a norm whose rows stay in the registers of their lanes: dx, and the sums of dgamma and dbeta over a
// chunk of rows, which is what a workgroup does.

// dy of the row, gamma of the columns of a lane, which all its rows share, and its sums of columns.
var<private> of_dy: array<Block, COUNT>;
var<private> of_gamma: array<Values, COUNT>;
var<private> sum_gamma: array<Values, COUNT>;
var<private> sum_beta: array<Values, COUNT>;

fn sums_of(scale: f32, m: f32, end: u32, lane: u32, index: u32) -> vec4<f32> {
    var sums = vec4<f32>();
    for (var i = 0u; i < COUNT; i++) {
        let at = i * params.team + lane;
        if at < end {
            sums += terms_of(unpack(of_x[i]), unpack(of_dy[i]), width_of(at), of_gamma[i], scale, m);
        }
    }
    return team_sum(sums, index, params.team);
}

fn load_row(begin: vec2<u32>, end: u32, lane: u32, reads_x: bool) {
    let x_begin = params.x_start + begin.x;
    let dy_begin = params.dy_start + begin.y;
    for (var i = 0u; i < COUNT; i++) {
        let at = i * params.team + lane;
        if at < end {
            of_dy[i] = row_dy(dy_begin, at);
            if reads_x {
                of_x[i] = row_x(x_begin, at);
            }
        }
    }
}

// `again` is the same for the whole workgroup.
fn kept_slope(row: u32, begin: u32, end: u32, lane: u32, again: bool, index: u32) -> Slope {
    var scaled = unscaled();
    if again {
        scaled = kept_scaled(begin, end, lane, index);
    }
    var m = 0.0;
    if CENTER {
        if again || !has(HAS_MEAN) {
            m = origin_of(begin, scaled.scale, end, lane, index);
        } else if end > 0u {
            m = mean[params.mean_start + row];
        }
    }
    return slope_of(scaled, m, sums_of(scaled.scale, m, end, lane, index), row, end > 0u);
}

// dx of a row, and its part of the sums.
fn finish_row(slope: Slope, begin: u32, end: u32, lane: u32) {
    for (var i = 0u; i < COUNT; i++) {
        let at = i * params.team + lane;
        if at < end {
            let x = unpack(of_x[i]);
            let dy = unpack(of_dy[i]);
            var dx: Values;
            for (var k = 0u; k < WIDTH; k++) {
                let x_hat = x_hat_of(slope.affine, x[k]);
                sum_gamma[i][k] += dy[k] * x_hat;
                sum_beta[i][k] += dy[k];
                dx[k] = dx_of(slope, dy[k] * of_gamma[i][k], x_hat);
            }
            if has(HAS_DX) {
                store_dx(begin, at, dx);
            }
        }
    }
}

// Adds up four sums of columns over the teams of the workgroup; the lanes of the first team get the result.
fn across_teams(sums: vec4<f32>, index: u32) -> vec4<f32> {
    let team = params.team;
    workgroupBarrier();
    scratch[index] = sums;
    workgroupBarrier();
    var total = vec4<f32>();
    if index < team {
        for (var first = index; first < 256u; first += 16u * team) {
            var part = scratch[first];
            for (var at = first + team; at < min(first + 16u * team, 256u); at += team) {
                part += scratch[at];
            }
            total += part;
        }
    }
    return total;
}

fn run(workgroup: u32, index: u32) {
    let team = params.team;
    let lane = index % team;
    let reads_x = has(HAS_DX) || has(HAS_DGAMMA);
    let rows = rows_of(workgroup);
    let columns = columns_of(rows.first);
    for (var i = 0u; i < COUNT; i++) {
        if i * team + lane < row_blocks() {
            of_gamma[i] = gamma_at(columns + (i * team + lane) * WIDTH);
        }
    }
    // As in the forward.
    var rows_left = 0xffffffffu;
    var again = false;
    loop {
        var stray_rows = 0u;
        var step = 0u;
        loop {
            let row = row_of(rows, step, index);
            // A row that is not there has no blocks, but takes part in the sums.
            let end = select(0u, row_blocks(), row < rows.end && ((rows_left >> step) & 1u) != 0u);
            let begin = begins(row);
            load_row(begin, end, lane, reads_x);
            var slope = no_slope();
            if reads_x {
                slope = kept_slope(row, params.x_start + begin.x, end, lane, again, index);
            }
            if end > 0u && slope.affine.stray && !again {
                stray_rows |= 1u << step;
            } else {
                finish_row(slope, begin.x, end, lane);
            }
            continuing {
                step++;
                break if step >= params.steps;
            }
        }
        if again || !any_of_workgroup(stray_rows != 0u, index) {
            break;
        }
        again = true;
        rows_left = stray_rows;
    }
    for (var i = 0u; i < COUNT; i++) {
        for (var k = 0u; k < WIDTH; k += 4u) {
            store_sums(workgroup, (i * team + lane) * WIDTH + k, i, k, index);
        }
    }
}

// Four columns from `column` on, or the only one of a block.
fn store_sums(chunk: u32, column: u32, i: u32, k: u32, index: u32) {
    let writes = index < params.team;
    if has(HAS_DGAMMA) {
        let total = across_teams(four_of(sum_gamma[i], k), index);
        for (var q = 0u; writes && q < min(WIDTH, 4u) && column + q < params.cols; q++) {
            sums[sums_of_chunk(chunk) + column + q] = total[q];
        }
    }
    if has(HAS_DBETA) {
        let total = across_teams(four_of(sum_beta[i], k), index);
        for (var q = 0u; writes && q < min(WIDTH, 4u) && column + q < params.cols; q++) {
            sums[sums_of_chunk(chunk) + params.dbeta_at + column + q] = total[q];
        }
    }
}

fn four_of(v: Values, k: u32) -> vec4<f32> {
    // A block of one value has no others.
    let last = WIDTH - 1u;
    return vec4<f32>(v[k], v[min(k + 1u, last)], v[min(k + 2u, last)], v[min(k + 3u, last)]);
}
