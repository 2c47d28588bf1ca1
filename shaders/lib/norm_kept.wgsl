// Rows that stay in the registers of their lanes: a team of lanes for each row, several teams in a workgroup where rows
// are short, and `steps` rows for each team.

// The blocks of a row that a lane has.
var<private> of_x: array<Block, COUNT>;

fn row_of(workgroup: u32, step: u32, index: u32) -> u32 {
    return (workgroup * params.steps + step) * (256u / params.team) + index / params.team;
}

fn first_of(row: u32, end: u32) -> f32 {
    if end == 0u {
        return 0.0;
    }
    return unpack(row_x(params.x_start + row * params.row_stride, 0u))[0];
}

// The origin of deviations: the first value of the row, and the mean of what the others differ from it, so that the
// mean of equal values is exact.
fn origin_of(row: u32, scale: f32, end: u32, lane: u32, index: u32) -> f32 {
    let first = first_of(row, end) * scale;
    var sum = 0.0;
    for (var i = 0u; i < COUNT; i++) {
        if i * params.team + lane < end {
            let v = unpack(of_x[i]);
            var part = 0.0;
            for (var k = 0u; k < width_of(i * params.team + lane); k++) {
                part += v[k] * scale - first;
            }
            sum += part;
        }
    }
    return first + average(team_sum(vec4<f32>(sum, 0.0, 0.0, 0.0), index, params.team).x);
}

// How a row that strays is scaled.
fn kept_scaled(row: u32, end: u32, lane: u32, index: u32) -> Scaled {
    let first = first_of(row, end);
    var sizes = vec4<f32>();
    for (var i = 0u; i < COUNT; i++) {
        let at = i * params.team + lane;
        if at < end {
            sizes += sizes_of(unpack(of_x[i]), width_of(at), first);
        }
    }
    return scaled_by(team_sum(sizes, index, params.team));
}
