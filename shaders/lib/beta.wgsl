// beta of the columns of a block.
fn beta_at(column: u32) -> Values {
    var v: Values;
    for (var k = 0u; k < WIDTH; k++) {
        v[k] = beta_of(column + k);
    }
    return v;
}

// beta of the positions of a block of a row, where columns are `inner` positions apart.
fn beta_along(position: u32) -> Values {
    if params.inner == 1u {
        return beta_at(position);
    }
    var v: Values;
    for (var k = 0u; k < WIDTH; k++) {
        v[k] = beta_of((position + k) / params.inner);
    }
    return v;
}
