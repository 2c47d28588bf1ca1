// A call with a residual: the workgroup writes sum = x + residual for the rows that it has, then goes on with sum for x.
// The sum is read again where it was written, so that it costs no traffic beyond that. `x` is the binding of sum here,
// `addend` that of the call's x. What an output holds on entry is read by the binding of that output.

fn x_block(at: u32) -> Loaded {
    return loaded_of(x_word(word_of(at)), at);
}

fn addend_block(at: u32) -> Loaded {
    if has(SUM_HOLDS_ADDEND) {
        return x_block(params.x_start + at);
    }
    return loaded_of(addend[word_of(params.addend_start + at)], params.addend_start + at);
}

fn residual_block(at: u32) -> Loaded {
    if has(Y_HOLDS_RESIDUAL) {
        return loaded_of(out_word(word_of(params.out_start + at)), params.out_start + at);
    }
    return loaded_of(residual[word_of(params.residual_start + at)], params.residual_start + at);
}

// The sum of ADDED elements.
fn add_at(at: u32) {
    store_x(params.x_start + at, summed(addend_block(at), residual_block(at)));
}
