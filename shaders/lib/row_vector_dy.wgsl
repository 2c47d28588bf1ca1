fn row_dy(begin: u32, at: u32) -> Block {
    return dy_block(begin + at * WIDTH);
}
