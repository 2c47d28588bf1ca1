const ADDED: u32 = 1u;

fn x_word(word: u32) -> u32 {
    return atomicLoad(&x[word]);
}

// As `store_one`.
fn store_x(at: u32, bits: u32) {
    let shift = 16u * (at & 1u);
    atomicAnd(&x[at / 2u], 0xffff0000u >> shift);
    atomicOr(&x[at / 2u], bits << shift);
}

fn summed(first: u32, second: u32) -> u32 {
    return narrow(widen(first) + widen(second));
}
