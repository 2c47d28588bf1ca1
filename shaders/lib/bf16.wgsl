// bf16 in the lower half of a word.

fn widen(half_bits: u32) -> f32 {
    return bitcast<f32>(half_bits << 16u);
}

// To nearest even.
fn narrow(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
    return select(rounded, 0x7fffu, (bits & 0x7fffffffu) > 0x7f800000u);
}
