// beta of a block of columns, from where `columns_of` says on.
fn beta_at(column: u32) -> Values {
    var v: Values;
    for (var k = 0u; k < WIDTH; k++) {
        v[k] = beta_of(column + k);
    }
    return v;
}

// beta of the positions of a block of a row, where columns are `inner` positions apart.
fn beta_along(columns: u32, position: u32) -> Values {
    if params.inner == 1u {
        return beta_at(columns + position);
    }
    var v: Values;
    for (var k = 0u; k < WIDTH; k++) {
        v[k] = beta_of(columns + (position + k) / params.inner);
    }
    return v;
}
