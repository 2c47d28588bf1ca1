fn x_block(at: u32) -> Loaded {
    return loaded_of(x[word_of(at)], at);
}
