// y of a position of channels-first data.
fn write_position(at: Position, x_begin: u32, affine: Affine, index: u32) {
    if !at.live {
        return;
    }
    for (var column = at.line; column < params.cols; column += LINES) {
        let element = column * params.inner;
        let of_gamma = gamma_at(at.columns + column);
        let y = normalized(unpack(x_block(x_begin + element)), affine, of_gamma, beta_at(at.columns + column));
        store(params.out_start + at.begin.y + element, y);
    }
}
