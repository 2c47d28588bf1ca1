// The forward of a norm whose rows are longer than registers hold: a workgroup for each row, which it reads again for
// each pass over it. The blocks of a tile are loaded before the first of them is needed.

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

fn run(workgroup: u32, index: u32) {
    let row = workgroup;
    // The same for every lane: what is beyond the grid's last row is a whole workgroup.
    if row >= params.rows {
        return;
    }
    let begin = params.x_start + row * params.row_stride;
    var m = 0.0;
    if CENTER {
        m = long_origin(begin, index);
    }
    let blocks = row_blocks();
    var cascade = Cascade();
    for (var tile = 0u; tile < blocks; tile += COUNT * 256u) {
        var tile_blocks = load_tile(begin, tile, blocks, index);
        var part = vec4<f32>();
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                let v = unpack(tile_blocks[i]);
                for (var k = 0u; k < width_of(at); k++) {
                    let d = v[k] - m;
                    part += vec4<f32>(d * d, d, 0.0, 0.0);
                }
            }
        }
        add_to_cascade(&cascade, part);
    }
    let affine = affine_of(m, team_sum(cascade_sum(cascade), index, 256u));
    if index == 0u {
        save_statistics(row, affine);
    }
    let target_begin = params.out_start + row * params.row_stride;
    if any_of_workgroup(affine.stray, index) {
        stray_forward(row, begin, target_begin, blocks, index);
    } else {
        write_row(begin, target_begin, affine, index);
    }
}

// In place this overwrites x, of which every lane reads its own blocks alone; the first value was read before the last
// barrier.
fn write_row(begin: u32, target_begin: u32, affine: Affine, index: u32) {
    let blocks = row_blocks();
    for (var tile = 0u; tile < blocks; tile += COUNT * 256u) {
        var tile_blocks = load_tile(begin, tile, blocks, index);
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                let y = normalized(unpack(tile_blocks[i]), affine, gamma_at(at * WIDTH), beta_at(at * WIDTH));
                store_row(target_begin, at, y);
            }
        }
    }
}
