// dx of a block of the row that begins at an element, before the start of a tensor is added.
fn store_dx(begin: u32, at: u32, dx: Values) {
    store_row(params.out_start + begin, at, dx);
}
