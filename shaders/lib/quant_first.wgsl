// A position of a quantised y of channels-first data. With a scale of its own, its values are made twice.

var<workgroup> most: array<atomic<u32>, ALONG>;

fn value_at(at: Position, x_begin: u32, column: u32, affine: Affine) -> f32 {
    let x = unpack(x_block(x_begin + column * params.inner));
    return normalized(x, affine, gamma_at(at.columns + column), beta_at(at.columns + column))[0];
}

// The largest |v| of a position, as bits. Every lane of the workgroup takes part.
fn most_of_position(at: Position, x_begin: u32, affine: Affine, index: u32) -> u32 {
    var own = 0u;
    for (var column = at.line; column < params.cols; column += LINES) {
        own = max(own, size_bits(value_at(at, x_begin, column, affine)));
    }
    if index < ALONG {
        atomicStore(&most[index], 0u);
    }
    workgroupBarrier();
    if at.live {
        atomicMax(&most[index % ALONG], own);
    }
    workgroupBarrier();
    return atomicLoad(&most[index % ALONG]);
}

fn write_position(at: Position, x_begin: u32, affine: Affine, index: u32) {
    var s = scale[params.scale_start];
    if has(QUANT_BY_ROW) {
        s = scale_of(most_of_position(at, x_begin, affine, index));
        if at.live && at.line == 0u {
            scale[params.scale_start + at.row] = s;
        }
    }
    if !at.live {
        return;
    }
    for (var column = at.line; column < params.cols; column += LINES) {
        let element = params.out_start + at.begin.y + column * params.inner;
        store_byte(element, code_of(value_at(at, x_begin, column, affine), s));
    }
}
