// The forward of a norm whose rows stay in the registers of their lanes: a team of lanes for each row, several teams in
// a workgroup where rows are short, and `steps` rows for each team.

// The origin of deviations: the first value of the row, and the mean of what the others differ from it, so that the
// mean of equal values is exact.
fn origin_of(kept: ptr<function, array<Block, COUNT>>, first: f32, end: u32, lane: u32, index: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < COUNT; i++) {
        if i * params.team + lane < end {
            let v = unpack((*kept)[i]);
            var part = 0.0;
            for (var k = 0u; k < width_of(i * params.team + lane); k++) {
                part += v[k] - first;
            }
            sum += part;
        }
    }
    return first + average(team_sum(vec4<f32>(sum, 0.0, 0.0, 0.0), index, params.team).x);
}

// The sums of d^2 and d.
fn deviations_of(kept: ptr<function, array<Block, COUNT>>, m: f32, end: u32, lane: u32, index: u32) -> vec4<f32> {
    var sums = vec2<f32>();
    for (var i = 0u; i < COUNT; i++) {
        if i * params.team + lane < end {
            let v = unpack((*kept)[i]);
            var part = vec2<f32>();
            for (var k = 0u; k < width_of(i * params.team + lane); k++) {
                let d = v[k] - m;
                part += vec2<f32>(d * d, d);
            }
            sums += part;
        }
    }
    return team_sum(vec4<f32>(sums, 0.0, 0.0), index, params.team);
}

fn row_of(workgroup: u32, step: u32, index: u32) -> u32 {
    return (workgroup * params.steps + step) * (256u / params.team) + index / params.team;
}

fn run(workgroup: u32, index: u32) {
    let team = params.team;
    let lane = index % team;
    // A lane has the same columns of all its rows.
    var of_gamma: array<Values, COUNT>;
    var of_beta: array<Values, COUNT>;
    for (var i = 0u; i < COUNT; i++) {
        let at = i * team + lane;
        if at < row_blocks() {
            of_gamma[i] = gamma_at(at * WIDTH);
            of_beta[i] = beta_at(at * WIDTH);
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
        let begin = params.x_start + row * params.row_stride;
        var kept: array<Block, COUNT>;
        var first = 0.0;
        if end > 0u {
            for (var i = 0u; i < COUNT; i++) {
                let at = i * team + lane;
                if at < end {
                    kept[i] = row_x(begin, at);
                }
            }
            first = unpack(row_x(begin, 0u))[0];
        }
        var m = 0.0;
        if CENTER {
            m = origin_of(&kept, first, end, lane, index);
        }
        let affine = affine_of(m, deviations_of(&kept, m, end, lane, index));
        if end > 0u && lane == 0u {
            save_statistics(row, affine);
        }
        if affine.stray && end > 0u {
            stray_rows |= 1u << step;
        }
        let target_begin = params.out_start + row * params.row_stride;
        for (var i = 0u; i < COUNT; i++) {
            let at = i * team + lane;
            if at < end && !affine.stray {
                store_row(target_begin, at, normalized(unpack(kept[i]), affine, of_gamma[i], of_beta[i]));
            }
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
            stray_forward(row, params.x_start + begin, params.out_start + begin, end, index);
        }
    }
}
