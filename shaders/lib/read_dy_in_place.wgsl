// dy is what the output holds.
fn dy_block(at: u32) -> Loaded {
    return loaded_of(out_word(word_of(at)), at);
}
