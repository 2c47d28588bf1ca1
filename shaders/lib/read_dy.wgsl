fn dy_block(at: u32) -> Loaded {
    return loaded_of(dy[word_of(at)], at);
}
