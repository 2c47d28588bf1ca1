// A call with a dsum, the gradient of the forward's sum: it is added to dx before that is rounded. dx may hold it.
fn dsum_block(at: u32) -> Loaded {
    if has(DX_HOLDS_DSUM) {
        return loaded_of(out_word(word_of(params.out_start + at)), params.out_start + at);
    }
    return loaded_of(dsum[word_of(params.dsum_start + at)], params.dsum_start + at);
}

fn with_dsum(dx: Values, dsum_bits: Block) -> Values {
    let of_sum = unpack(dsum_bits);
    var v = dx;
    for (var k = 0u; k < WIDTH; k++) {
        v[k] += of_sum[k];
    }
    return v;
}
