// Rows of whole blocks.

fn row_blocks() -> u32 {
    return params.cols / WIDTH;
}

// Values of a block of a row.
fn width_of(at: u32) -> u32 {
    return WIDTH;
}

// A block of the row of x that begins at an element.
fn row_x(begin: u32, at: u32) -> Block {
    return x_block(begin + at * WIDTH);
}

fn store_row(begin: u32, at: u32, v: Values) {
    store(begin + at * WIDTH, v);
}
