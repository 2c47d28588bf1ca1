fn x_block(at: u32) -> Block {
    return block_of(x[word_of(at)], at);
}
