// Rows that stay in the registers of their lanes: a team of lanes for each row, several teams in a workgroup where rows
// are short, and `steps` rows for each team.

// The blocks of a row that a lane has.
var<private> of_x: array<Block, COUNT>;

// The rows of a workgroup.
fn rows_of(workgroup: u32) -> Chunk {
    return chunk_of(workgroup, params.steps * (256u / params.team));
}

fn row_of(rows: Chunk, step: u32, index: u32) -> u32 {
    return rows.first + step * (256u / params.team) + index / params.team;
}

// The first value of the row that begins at an element.
fn first_of(begin: u32, end: u32) -> f32 {
    if end == 0u {
        return 0.0;
    }
    return unpack(row_x(begin, 0u))[0];
}

// The origin of deviations: the first value of the row, and the mean of what the others differ from it, so that the
// mean of equal values is exact.
fn origin_of(begin: u32, scale: f32, end: u32, lane: u32, index: u32) -> f32 {
    let first = first_of(begin, end) * scale;
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
fn kept_scaled(begin: u32, end: u32, lane: u32, index: u32) -> Scaled {
    let first = first_of(begin, end);
    var sizes = vec4<f32>();
    for (var i = 0u; i < COUNT; i++) {
        let at = i * params.team + lane;
        if at < end {
            sizes += sizes_of(unpack(of_x[i]), width_of(at), first);
        }
    }
    return scaled_by(team_sum(sizes, index, params.team));
}
