// Rows that are longer than registers hold: a workgroup reads its row again for each pass. The blocks of a tile are loaded
// before the first of them is needed.

var<workgroup> verdict: u32;

// What every lane of the workgroup says alike, as a value that is uniform by the rules of WGSL, so that barriers may
// follow.
fn agreed(stray: bool, index: u32) -> bool {
    if index == 0u {
        verdict = u32(stray);
    }
    return workgroupUniformLoad(&verdict) != 0u;
}

fn load_tile(begin: u32, tile: u32, blocks: u32, index: u32) -> array<Block, COUNT> {
    var tile_blocks: array<Block, COUNT>;
    for (var i = 0u; i < COUNT; i++) {
        let at = tile + i * 256u + index;
        if at < blocks {
            tile_blocks[i] = row_x(begin, at);
        }
    }
    return tile_blocks;
}

// The origin of deviations: the first value of the row, and the mean of what the others differ from it, so that the mean
// of equal values is exact.
fn long_origin(begin: u32, scale: f32, index: u32) -> f32 {
    let first = unpack(row_x(begin, 0u))[0] * scale;
    let blocks = row_blocks();
    var cascade = Cascade();
    for (var tile = 0u; tile < blocks; tile += COUNT * 256u) {
        var tile_blocks = load_tile(begin, tile, blocks, index);
        var part = 0.0;
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                let v = unpack(tile_blocks[i]);
                for (var k = 0u; k < width_of(at); k++) {
                    part += v[k] * scale - first;
                }
            }
        }
        add_to_cascade(&cascade, vec4<f32>(part, 0.0, 0.0, 0.0));
    }
    return first + average(team_sum(cascade_sum(cascade), index, 256u).x);
}

// How a row that strays is scaled.
fn long_scaled(begin: u32, index: u32) -> Scaled {
    let first = unpack(row_x(begin, 0u))[0];
    let blocks = row_blocks();
    var cascade = Cascade();
    for (var at = index; at < blocks; at += 256u) {
        add_to_cascade(&cascade, sizes_of(unpack(row_x(begin, at)), width_of(at), first));
    }
    return scaled_by(team_sum(cascade_sum(cascade), index, 256u));
}
