// Tensors of 16-bit types by elements, for rows that begin anywhere.

alias Loaded = u32;

// Where the word with element `at` is in a binding.
fn word_of(at: u32) -> u32 {
    return at / 2u;
}

fn loaded_of(word: u32, at: u32) -> Loaded {
    return (word >> (16u * (at & 1u))) & 0xffffu;
}
