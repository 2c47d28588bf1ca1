// The sum of the positions and rows of a lane, which reads them again itself.
fn prepare(workgroup: u32, index: u32) {
    let chunk = workgroup / params.slabs;
    let slab = workgroup - chunk * params.slabs;
    let position = (slab * params.team + index % params.team) * WIDTH;
    if !has(HAS_RESIDUAL) || position >= params.len {
        return;
    }
    let lines = 256u / params.team;
    let rows = chunk_of(chunk, lines * params.steps);
    for (var row = rows.first + index / params.team; row < rows.end; row += lines) {
        add_at(begins(row).x + position);
    }
}
