// The sum of the rows of a workgroup, which follow one another.
fn prepare(workgroup: u32, index: u32) {
    if !has(HAS_RESIDUAL) {
        return;
    }
    let rows = chunk_of(workgroup, params.steps * (256u / params.team));
    let parts = (params.cols + ADDED - 1u) / ADDED;
    let count = (rows.end - rows.first) * parts;
    for (var i = index; i < count; i += 256u) {
        let row = i / parts;
        add_at(begins(rows.first + row).x + (i - row * parts) * ADDED);
    }
    storageBarrier();
}
