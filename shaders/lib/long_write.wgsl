// In place this overwrites x, of which every lane reads its own blocks alone; the first value was read before the last
// barrier.
fn write_row(row: u32, begin: u32, affine: Affine, index: u32) {
    let target_begin = params.out_start + begins(row).y;
    let columns = columns_of(row);
    let blocks = row_blocks();
    for (var tile = 0u; tile < blocks; tile += COUNT * 256u) {
        var tile_blocks = load_tile(begin, tile, blocks, index);
        for (var i = 0u; i < COUNT; i++) {
            let at = tile + i * 256u + index;
            if at < blocks {
                let of_gamma = gamma_at(columns + at * WIDTH);
                let of_beta = beta_at(columns + at * WIDTH);
                store_row(target_begin, at, normalized(unpack(tile_blocks[i]), affine, of_gamma, of_beta));
            }
        }
    }
}
