// As in block_dx.wgsl.
fn store_dx(at: u32, dx: Values) {
    var v = dx;
    if has(HAS_DSUM) {
        v = with_dsum(dx, dsum_block(at));
    }
    store(params.out_start + at, v);
}
