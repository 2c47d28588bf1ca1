// The forward of a norm whose rows stay in the registers of their lanes.

// The sums of d^2 and d.
fn deviations_of(scale: f32, m: f32, end: u32, lane: u32, index: u32) -> vec4<f32> {
    var sums = vec2<f32>();
    for (var i = 0u; i < COUNT; i++) {
        if i * params.team + lane < end {
            let v = unpack(of_x[i]);
            var part = vec2<f32>();
            for (var k = 0u; k < width_of(i * params.team + lane); k++) {
                let d = v[k] * scale - m;
                part += vec2<f32>(d * d, d);
            }
            sums += part;
        }
    }
    return team_sum(vec4<f32>(sums, 0.0, 0.0), index, params.team);
}

fn run(workgroup: u32, index: u32) {
    let team = params.team;
    let lane = index % team;
    let rows = rows_of(workgroup);
    // A lane has the same columns of all its rows.
    let columns = columns_of(row_of(rows, 0u, index));
    var of_gamma: array<Values, COUNT>;
    var of_beta: array<Values, COUNT>;
    for (var i = 0u; i < COUNT; i++) {
        let at = i * team + lane;
        if at < row_blocks() {
            of_gamma[i] = gamma_at(columns + at * WIDTH);
            of_beta[i] = beta_at(columns + at * WIDTH);
        }
    }
    // Bit i: row i of the team is to be done. A second time round these are the rows that stray.
    var rows_left = 0xffffffffu;
    var again = false;
    loop {
        var stray_rows = 0u;
        // The condition comes last, as in the forward of DyT.
        var step = 0u;
        loop {
            let row = row_of(rows, step, index);
            // A row that is not there has no blocks, but takes part in the sums.
            let end = select(0u, row_blocks(), row < rows.end && ((rows_left >> step) & 1u) != 0u);
            let at_row = begins(row);
            let begin = params.x_start + at_row.x;
            for (var i = 0u; i < COUNT; i++) {
                let at = i * team + lane;
                if at < end {
                    of_x[i] = row_x(begin, at);
                }
            }
            var scaled = unscaled();
            if again {
                scaled = kept_scaled(begin, end, lane, index);
            }
            var m = 0.0;
            if CENTER {
                m = origin_of(begin, scaled.scale, end, lane, index);
            }
            let affine = affine_of(scaled, m, deviations_of(scaled.scale, m, end, lane, index));
            let finished = again || !affine.stray;
            if end > 0u && !finished {
                stray_rows |= 1u << step;
            }
            if end > 0u && finished && lane == 0u {
                save_statistics(row, affine);
            }
            let target_begin = params.out_start + at_row.y;
            for (var i = 0u; i < COUNT; i++) {
                let at = i * team + lane;
                if at < end && finished {
                    store_row(target_begin, at, normalized(unpack(of_x[i]), affine, of_gamma[i], of_beta[i]));
                }
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
}
