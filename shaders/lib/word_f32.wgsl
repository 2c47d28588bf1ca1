// f32 by elements, for rows that begin anywhere.

const WIDTH: u32 = 1u;
alias Values = array<f32, WIDTH>;
alias Block = u32;

// Where the word with element `at` is in a binding.
fn word_of(at: u32) -> u32 {
    return at;
}

fn block_of(word: u32, at: u32) -> Block {
    return word;
}

fn unpack(block: Block) -> Values {
    return Values(bitcast<f32>(block));
}

fn out_word(word: u32) -> u32 {
    return out[word];
}

fn store(at: u32, v: Values) {
    out[at] = bitcast<u32>(v[0]);
}
