fn walk_store(begin: u32, at: u32, y: Values) {
    store(begin + at * params.inner, y);
}
