fn dy_block(at: u32) -> Block {
    return block_of(dy[word_of(at)], at);
}
