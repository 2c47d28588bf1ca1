// Rows that begin anywhere, in the blocks that they had if they began at 16 bytes, so that what is added up in which
// order does not depend on where a row lies. The last block may be shorter; what it lacks is 0.

fn row_blocks() -> u32 {
    return (params.cols + WIDTH - 1u) / WIDTH;
}

// Values of a block of a row.
fn width_of(at: u32) -> u32 {
    return min(WIDTH, params.cols - at * WIDTH);
}

// A block of the row of x that begins at an element.
fn row_x(begin: u32, at: u32) -> Block {
    var block: Block;
    for (var k = 0u; k < width_of(at); k++) {
        insert(&block, k, x_block(begin + at * WIDTH + k));
    }
    return block;
}
