// A word of which both halves are the block's is stored as a whole.
fn store_row(begin: u32, at: u32, v: Values) {
    let first = begin + at * WIDTH;
    let width = width_of(at);
    var k = 0u;
    while k < width {
        let element = first + k;
        if (element & 1u) == 0u && k + 1u < width {
            atomicStore(&out[element / 2u], narrow(v[k]) | (narrow(v[k + 1u]) << 16u));
            k += 2u;
        } else {
            store_one(element, v[k]);
            k += 1u;
        }
    }
}
