// The forward of a norm whose rows are longer than registers hold.

fn long_affine(scaled: Scaled, begin: u32, index: u32) -> Affine {
    var m = 0.0;
    if CENTER {
        m = long_origin(begin, scaled.scale, index);
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
                    let d = v[k] * scaled.scale - m;
                    part += vec4<f32>(d * d, d, 0.0, 0.0);
                }
            }
        }
        add_to_cascade(&cascade, part);
    }
    return affine_of(scaled, m, team_sum(cascade_sum(cascade), index, 256u));
}

fn run(workgroup: u32, index: u32) {
    let row = workgroup;
    // The same for every lane: what is beyond the grid's last row is a whole workgroup.
    if row >= params.rows {
        return;
    }
    let at = begins(row);
    let begin = params.x_start + at.x;
    var scaled = unscaled();
    var affine: Affine;
    var again = false;
    loop {
        affine = long_affine(scaled, begin, index);
        if again || !agreed(affine.stray, index) {
            break;
        }
        again = true;
        scaled = long_scaled(begin, index);
    }
    if index == 0u {
        save_statistics(row, affine);
    }
    write_row(row, begin, affine, index);
}
