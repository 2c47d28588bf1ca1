fn insert(block: ptr<function, Block>, k: u32, bits: u32) {
    (*block)[k] = bits;
}
