// How the lanes of a position of channels-first data go through its columns.

fn walk_begin(index: u32) -> u32 {
    return index / ALONG;
}

fn walk_step() -> u32 {
    return LINES;
}

fn walk_width(at: u32) -> u32 {
    return 1u;
}

fn walk_column(at: u32) -> u32 {
    return at;
}

fn walk_x(begin: u32, at: u32) -> Values {
    return unpack(x_block(begin + at * params.inner));
}

fn walk_sum(value: vec4<f32>, index: u32) -> vec4<f32> {
    return line_sum(value, index);
}
