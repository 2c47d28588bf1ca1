// Writing elements of f32.

fn out_word(word: u32) -> u32 {
    return out[word];
}

fn store_one(at: u32, v: f32) {
    out[at] = bitcast<u32>(v);
}
