// x is what the output holds.
fn x_block(at: u32) -> Block {
    return block_of(out_word(word_of(at)), at);
}
