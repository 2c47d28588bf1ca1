// Tensors of f32 by elements, for rows that begin anywhere.

alias Loaded = u32;

// Where the word with element `at` is in a binding.
fn word_of(at: u32) -> u32 {
    return at;
}

fn loaded_of(word: u32, at: u32) -> Loaded {
    return word;
}
