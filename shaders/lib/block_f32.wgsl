// Four values of f32, 16 bytes.

const WIDTH: u32 = 4u;
alias Values = array<f32, WIDTH>;
alias Block = vec4<u32>;

fn unpack(block: Block) -> Values {
    let v = bitcast<vec4<f32>>(block);
    return Values(v.x, v.y, v.z, v.w);
}

fn pack(v: Values) -> Block {
    return bitcast<vec4<u32>>(vec4<f32>(v[0], v[1], v[2], v[3]));
}
