// The origin of deviations of a row of the workgroup: its first value, and the mean of what the others differ from it,
// so that the mean of equal values is exact.
fn long_origin(begin: u32, index: u32) -> f32 {
    let first = unpack(row_x(begin, 0u))[0];
    let blocks = row_blocks();
    var cascade = Cascade();
    for (var tile = 0u; tile < blocks; tile += COUNT * 256u) {
        var tile_blocks: array<Block, COUNT>;
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                tile_blocks[i] = row_x(begin, at);
            }
        }
        var part = 0.0;
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                let v = unpack(tile_blocks[i]);
                for (var k = 0u; k < width_of(at); k++) {
                    part += v[k] - first;
                }
            }
        }
        add_to_cascade(&cascade, vec4<f32>(part, 0.0, 0.0, 0.0));
    }
    return first + average(team_sum(cascade_sum(cascade), index, 256u).x);
}
