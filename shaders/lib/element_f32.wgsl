// Tensors of f32 by elements, for rows that begin anywhere.

alias Loaded = u32;

// Where the word with element `at` is in a binding.
fn word_of(at: u32) -> u32 {
    return at;
}

fn loaded_of(word: u32, at: u32) -> Loaded {
    return word;
}

fn out_word(word: u32) -> u32 {
    return out[word];
}

fn store_one(at: u32, v: f32) {
    out[at] = bitcast<u32>(v);
}
