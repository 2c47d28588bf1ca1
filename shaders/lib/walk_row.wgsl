// How the lanes of a row go through it where a row is not channels-first: by blocks.

fn walk_begin(index: u32) -> u32 {
    return index % params.team;
}

fn walk_step() -> u32 {
    return params.team;
}

fn walk_width(at: u32) -> u32 {
    return width_of(at);
}

fn walk_column(at: u32) -> u32 {
    return at * WIDTH;
}

// Block `at` of the row that begins at an element.
fn walk_x(begin: u32, at: u32) -> Values {
    return unpack(row_x(begin, at));
}

fn walk_sum(value: vec4<f32>, index: u32) -> vec4<f32> {
    return team_sum(value, index, params.team);
}
