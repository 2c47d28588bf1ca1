// The forward of DyT and Derf. A lane owns the same block of positions of every row that it takes, so that gamma and
// beta stay in registers. Positions are counted along a row of cols * inner elements.

fn run(workgroup: u32, index: u32) {
    let chunk = workgroup / params.slabs;
    let slab = workgroup - chunk * params.slabs;
    let position = (slab * params.team + index % params.team) * WIDTH;
    if position >= params.len {
        return;
    }
    let of_gamma = gamma_along(position);
    let of_beta = beta_along(position);
    let alpha_value = alpha[params.alpha_start];
    let shift_value = shift_value();
    let lines = 256u / params.team;
    let first = chunk * lines * params.steps + index / params.team;
    let end = min(params.rows, (chunk + 1u) * lines * params.steps);
    if first >= end {
        return;
    }
    // The condition comes last: a driver that masks lanes instead of leaving a loop would go round once more for nothing.
    var row = first;
    loop {
        var blocks: array<Block, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            if row + i * lines < end {
                blocks[i] = x_block(params.x_start + (row + i * lines) * params.row_stride + position);
            }
        }
        for (var i = 0u; i < AHEAD; i++) {
            if row + i * lines < end {
                var v = unpack(blocks[i]);
                for (var k = 0u; k < WIDTH; k++) {
                    v[k] = of_gamma[k] * curve(argument(alpha_value, v[k], shift_value)) + of_beta[k];
                }
                store(params.out_start + (row + i * lines) * params.row_stride + position, v);
            }
        }
        continuing {
            row += AHEAD * lines;
            break if row >= end;
        }
    }
}
