// Writing 16-bit elements. A word may belong to two lanes, or half of it to a gap or to another tensor: its halves are
// written apart, by atomics, so that none is lost.

fn out_word(word: u32) -> u32 {
    return atomicLoad(&out[word]);
}

// Nothing else writes this half while it is neither.
fn store_one(at: u32, v: f32) {
    let shift = 16u * (at & 1u);
    atomicAnd(&out[at / 2u], 0xffff0000u >> shift);
    atomicOr(&out[at / 2u], narrow(v) << shift);
}
