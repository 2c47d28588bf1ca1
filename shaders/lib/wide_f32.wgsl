// f32 by 16 bytes: every row begins at a multiple of them.

const WIDTH: u32 = 4u;
alias Values = array<f32, WIDTH>;
alias Block = vec4<u32>;

// Where the word with element `at` is in a binding.
fn word_of(at: u32) -> u32 {
    return at / WIDTH;
}

fn block_of(word: vec4<u32>, at: u32) -> Block {
    return word;
}

fn unpack(block: Block) -> Values {
    let v = bitcast<vec4<f32>>(block);
    return Values(v.x, v.y, v.z, v.w);
}

fn out_word(word: u32) -> vec4<u32> {
    return out[word];
}

fn store(at: u32, v: Values) {
    out[at / WIDTH] = bitcast<vec4<u32>>(vec4<f32>(v[0], v[1], v[2], v[3]));
}
