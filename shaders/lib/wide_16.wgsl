// 16-bit types by 16 bytes: every row begins at a multiple of them.

const WIDTH: u32 = 8u;
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
    return Values(
        widen(block.x & 0xffffu), widen(block.x >> 16u),
        widen(block.y & 0xffffu), widen(block.y >> 16u),
        widen(block.z & 0xffffu), widen(block.z >> 16u),
        widen(block.w & 0xffffu), widen(block.w >> 16u),
    );
}

fn out_word(word: u32) -> vec4<u32> {
    return out[word];
}

fn store(at: u32, v: Values) {
    out[at / WIDTH] = vec4<u32>(
        narrow(v[0]) | (narrow(v[1]) << 16u),
        narrow(v[2]) | (narrow(v[3]) << 16u),
        narrow(v[4]) | (narrow(v[5]) << 16u),
        narrow(v[6]) | (narrow(v[7]) << 16u),
    );
}
