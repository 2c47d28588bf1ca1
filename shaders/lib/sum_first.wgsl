// The sum of the positions of a workgroup of channels-first data.
fn prepare(workgroup: u32, index: u32) {
    if !has(HAS_RESIDUAL) {
        return;
    }
    let at = position_of(workgroup, index);
    for (var column = at.line; at.live && column < params.cols; column += LINES) {
        add_at(at.begin.x + column * params.inner);
    }
    storageBarrier();
}
