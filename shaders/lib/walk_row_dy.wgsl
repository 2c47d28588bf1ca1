fn walk_dy(begin: u32, at: u32) -> Values {
    return unpack(row_dy(begin, at));
}
