// A row of a quantised y. With a scale of its own, its values are made twice: for the largest, and to be divided.

var<workgroup> most: atomic<u32>;

// The values of block `at`.
fn values_at(begin: u32, at: u32, columns: u32, affine: Affine) -> Values {
    let column = columns + at * WIDTH;
    return normalized(unpack(row_x(begin, at)), affine, gamma_at(column), beta_at(column));
}

// The largest |v| of a row, as bits. Every lane of the workgroup takes part.
fn most_of_row(begin: u32, columns: u32, affine: Affine, index: u32) -> u32 {
    var own = 0u;
    for (var at = index; at < row_blocks(); at += 256u) {
        let v = values_at(begin, at, columns, affine);
        for (var k = 0u; k < width_of(at); k++) {
            own = max(own, size_bits(v[k]));
        }
    }
    if index == 0u {
        atomicStore(&most, 0u);
    }
    workgroupBarrier();
    atomicMax(&most, own);
    workgroupBarrier();
    return atomicLoad(&most);
}

fn write_row(row: u32, begin: u32, affine: Affine, index: u32) {
    let columns = columns_of(row);
    var s = scale[params.scale_start];
    if has(QUANT_BY_ROW) {
        s = scale_of(most_of_row(begin, columns, affine, index));
        if index == 0u {
            scale[params.scale_start + row] = s;
        }
    }
    let target_begin = params.out_start + begins(row).y;
    for (var at = index; at < row_blocks(); at += 256u) {
        let v = values_at(begin, at, columns, affine);
        store_codes(target_begin + at * WIDTH, width_of(at), v, s);
    }
}

// The first `width` values of a block. Four that make a word are stored as a whole.
fn store_codes(first: u32, width: u32, v: Values, s: f32) {
    var k = 0u;
    while k < width {
        let at = first + k;
        if (at & 3u) == 0u && k + 3u < width {
            var word = 0u;
            for (var i = 0u; i < 4u; i++) {
                word |= code_of(v[k + i], s) << (8u * i);
            }
            atomicStore(&out[at / 4u], word);
            k += 4u;
        } else {
            store_byte(at, code_of(v[k], s));
            k += 1u;
        }
    }
}
