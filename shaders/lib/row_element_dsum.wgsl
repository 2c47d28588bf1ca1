fn row_dsum(begin: u32, at: u32) -> Block {
    var block: Block;
    for (var k = 0u; k < width_of(at); k++) {
        insert(&block, k, dsum_block(begin + at * WIDTH + k));
    }
    return block;
}
