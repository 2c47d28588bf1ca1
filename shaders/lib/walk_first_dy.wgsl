fn walk_dy(begin: u32, at: u32) -> Values {
    return unpack(dy_block(begin + at * params.inner));
}
