// The sum of the rows of a workgroup, which follow one another.
fn prepare(workgroup: u32, index: u32) {
    if !has(HAS_RESIDUAL) {
        return;
    }
    let each = params.steps * (256u / params.team);
    let first = min(workgroup * each, params.rows);
    let parts = (params.cols + ADDED - 1u) / ADDED;
    let count = min(each, params.rows - first) * parts;
    for (var i = index; i < count; i += 256u) {
        let row = i / parts;
        add_at((first + row) * params.row_stride + (i - row * parts) * ADDED);
    }
    storageBarrier();
}
