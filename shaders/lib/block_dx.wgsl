// dx of a block, before the start of a tensor is added to its place.
fn store_dx(at: u32, dx: Values) {
    store(params.out_start + at, dx);
}
