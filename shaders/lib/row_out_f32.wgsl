fn store_row(begin: u32, at: u32, v: Values) {
    for (var k = 0u; k < width_of(at); k++) {
        store_one(begin + at * WIDTH + k, v[k]);
    }
}
