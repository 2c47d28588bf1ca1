// The forward of DyT and Derf. A lane owns the same block of positions of every row that it takes, so that gamma and
// beta stay in registers. Positions are counted along a row of cols * inner elements.

fn run(workgroup: u32, index: u32) {
    let chunk = workgroup / params.slabs;
    let slab = workgroup - chunk * params.slabs;
    let position = (slab * params.team + index % params.team) * WIDTH;
    if position >= params.len {
        return;
    }
    let lines = 256u / params.team;
    let rows = chunk_of(chunk, lines * params.steps);
    let first = rows.first + index / params.team;
    let end = rows.end;
    if first >= end {
        return;
    }
    // All rows of a lane have the same.
    let columns = columns_of(first);
    let of_gamma = gamma_along(columns, position);
    let of_beta = beta_along(columns, position);
    let alpha_value = alpha[params.alpha_start];
    let shift_value = shift_value();
    // The condition comes last: a driver that masks lanes instead of leaving a loop would go round once more for nothing.
    var row = first;
    loop {
        var blocks: array<Block, AHEAD>;
        var targets: array<u32, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            if row + i * lines < end {
                let at = begins(row + i * lines) + position;
                blocks[i] = x_block(params.x_start + at.x);
                targets[i] = params.out_start + at.y;
            }
        }
        for (var i = 0u; i < AHEAD; i++) {
            if row + i * lines < end {
                var v = unpack(blocks[i]);
                for (var k = 0u; k < WIDTH; k++) {
                    v[k] = of_gamma[k] * curve(argument(alpha_value, v[k], shift_value)) + of_beta[k];
                }
                store(targets[i], v);
            }
        }
        continuing {
            row += AHEAD * lines;
            break if row >= end;
        }
    }
}
