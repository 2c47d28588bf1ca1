const ADDED: u32 = 1u;

fn x_word(word: u32) -> u32 {
    return x[word];
}

fn store_x(at: u32, bits: u32) {
    x[at] = bits;
}

fn summed(first: u32, second: u32) -> u32 {
    return bitcast<u32>(bitcast<f32>(first) + bitcast<f32>(second));
}
