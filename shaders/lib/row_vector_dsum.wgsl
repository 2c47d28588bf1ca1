fn row_dsum(begin: u32, at: u32) -> Block {
    return dsum_block(begin + at * WIDTH);
}
