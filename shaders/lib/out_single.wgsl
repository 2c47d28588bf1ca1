// Writing blocks of one value.

fn store(at: u32, v: Values) {
    store_one(at, v[0]);
}
