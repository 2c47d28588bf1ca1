// The backward of a norm whose rows stay in the registers of their lanes: dx, and the sums of dgamma and dbeta over a
// chunk of rows, which is what a workgroup does. Teams are as in the forward, with `steps` rows for each.

// The blocks of a row that a lane has, gamma of its columns, which all its rows share, and its sums of columns.
var<private> of_x: array<Block, COUNT>;
var<private> of_dy: array<Block, COUNT>;
var<private> of_gamma: array<Values, COUNT>;
var<private> sum_gamma: array<Values, COUNT>;
var<private> sum_beta: array<Values, COUNT>;

// As in the forward.
fn origin_of(first: f32, end: u32, lane: u32, index: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < COUNT; i++) {
        if i * params.team + lane < end {
            let v = unpack(of_x[i]);
            var part = 0.0;
            for (var k = 0u; k < width_of(i * params.team + lane); k++) {
                part += v[k] - first;
            }
            sum += part;
        }
    }
    return first + average(team_sum(vec4<f32>(sum, 0.0, 0.0, 0.0), index, params.team).x);
}

fn sums_of(m: f32, end: u32, lane: u32, index: u32) -> vec4<f32> {
    var sums = vec4<f32>();
    for (var i = 0u; i < COUNT; i++) {
        let at = i * params.team + lane;
        if at < end {
            sums += terms_of(unpack(of_x[i]), unpack(of_dy[i]), width_of(at), of_gamma[i], m);
        }
    }
    return team_sum(sums, index, params.team);
}

fn load_row(row: u32, end: u32, lane: u32, reads_x: bool) {
    let x_begin = params.x_start + row * params.row_stride;
    let dy_begin = params.dy_start + row * params.row_stride;
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

// dx of a row, and its part of the sums.
fn finish_row(slope: Slope, row: u32, end: u32, lane: u32) {
    let begin = params.out_start + row * params.row_stride;
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
                store_row(begin, at, dx);
            }
        }
    }
}

// The same of a row that strays.
fn finish_stray_row(scaled: ScaledSlope, row: u32, end: u32, lane: u32) {
    let begin = params.out_start + row * params.row_stride;
    for (var i = 0u; i < COUNT; i++) {
        let at = i * params.team + lane;
        if at < end {
            let x = unpack(of_x[i]);
            let dy = unpack(of_dy[i]);
            var dx: Values;
            for (var k = 0u; k < WIDTH; k++) {
                let x_hat = stray_x_hat(scaled, x[k]);
                sum_gamma[i][k] += dy[k] * x_hat;
                sum_beta[i][k] += dy[k];
                dx[k] = stray_dx(scaled, dy[k] * of_gamma[i][k], x_hat);
            }
            if has(HAS_DX) {
                store_row(begin, at, dx);
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

fn row_of(workgroup: u32, step: u32, index: u32) -> u32 {
    return (workgroup * params.steps + step) * (256u / params.team) + index / params.team;
}

fn run(workgroup: u32, index: u32) {
    let team = params.team;
    let lane = index % team;
    let reads_x = has(HAS_DX) || has(HAS_DGAMMA);
    for (var i = 0u; i < COUNT; i++) {
        if i * team + lane < row_blocks() {
            of_gamma[i] = gamma_at((i * team + lane) * WIDTH);
        }
    }
    // Bit i: row i of the team strays.
    var stray_rows = 0u;
    // The condition comes last, as in the forward of DyT.
    var step = 0u;
    loop {
        let row = row_of(workgroup, step, index);
        // A row that is not there has no blocks, but takes part in the sums.
        let end = select(0u, row_blocks(), row < params.rows);
        load_row(row, end, lane, reads_x);
        var slope = Slope(Affine(0.0, 0.0, 0.0, 0.0, false), 0.0, 0.0);
        if reads_x {
            var m = 0.0;
            if CENTER {
                if has(HAS_MEAN) {
                    if end > 0u {
                        m = mean[params.mean_start + row];
                    }
                } else {
                    var first = 0.0;
                    if end > 0u {
                        first = unpack(row_x(params.x_start + row * params.row_stride, 0u))[0];
                    }
                    m = origin_of(first, end, lane, index);
                }
            }
            slope = slope_of(m, sums_of(m, end, lane, index), row, end > 0u);
        }
        if slope.affine.stray && end > 0u {
            stray_rows |= 1u << step;
        } else {
            finish_row(slope, row, end, lane);
        }
        continuing {
            step++;
            break if step >= params.steps;
        }
    }
    if any_of_workgroup(stray_rows != 0u, index) {
        for (step = 0u; step < params.steps; step++) {
            let row = row_of(workgroup, step, index);
            let end = select(0u, row_blocks(), ((stray_rows >> step) & 1u) != 0u);
            let begin = row * params.row_stride;
            let scaled = scaled_slope(params.x_start + begin, params.dy_start + begin, end, index);
            load_row(row, end, lane, true);
            finish_stray_row(scaled, row, end, lane);
        }
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
