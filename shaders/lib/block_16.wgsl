// Eight values of a 16-bit type, 16 bytes.

const WIDTH: u32 = 8u;
alias Values = array<f32, WIDTH>;
alias Block = vec4<u32>;

fn unpack(block: Block) -> Values {
    return Values(
        widen(block.x & 0xffffu), widen(block.x >> 16u),
        widen(block.y & 0xffffu), widen(block.y >> 16u),
        widen(block.z & 0xffffu), widen(block.z >> 16u),
        widen(block.w & 0xffffu), widen(block.w >> 16u),
    );
}

fn pack(v: Values) -> Block {
    return vec4<u32>(
        narrow(v[0]) | (narrow(v[1]) << 16u),
        narrow(v[2]) | (narrow(v[3]) << 16u),
        narrow(v[4]) | (narrow(v[5]) << 16u),
        narrow(v[6]) | (narrow(v[7]) << 16u),
    );
}
