fn insert(block: ptr<function, Block>, k: u32, bits: u32) {
    (*block)[k / 2u] |= bits << (16u * (k & 1u));
}
