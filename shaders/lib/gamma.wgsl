// gamma of a block of columns, from where `columns_of` says on.
fn gamma_at(column: u32) -> Values {
    var v: Values;
    for (var k = 0u; k < WIDTH; k++) {
        v[k] = gamma_of(column + k);
    }
    return v;
}

// gamma of the positions of a block of a row, where columns are `inner` positions apart.
fn gamma_along(columns: u32, position: u32) -> Values {
    if params.inner == 1u {
        return gamma_at(columns + position);
    }
    var v: Values;
    for (var k = 0u; k < WIDTH; k++) {
        v[k] = gamma_of(columns + (position + k) / params.inner);
    }
    return v;
}
