// As in row_dx.wgsl.
fn store_dx(begin: u32, at: u32, dx: Values) {
    var v = dx;
    if has(HAS_DSUM) {
        v = with_dsum(dx, row_dsum(begin, at));
    }
    store_row(params.out_start + begin, at, v);
}
