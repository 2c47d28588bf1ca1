// Tensors by 16 bytes: every row begins at a multiple of them.

alias Loaded = Block;

// Where the word with element `at` is in a binding.
fn word_of(at: u32) -> u32 {
    return at / WIDTH;
}

fn loaded_of(word: vec4<u32>, at: u32) -> Loaded {
    return word;
}

fn out_word(word: u32) -> vec4<u32> {
    return out[word];
}

fn store(at: u32, v: Values) {
    out[at / WIDTH] = pack(v);
}
