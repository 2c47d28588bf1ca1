fn walk_store(begin: u32, at: u32, y: Values) {
    store_row(begin, at, y);
}
