const ADDED: u32 = WIDTH;

fn x_word(word: u32) -> vec4<u32> {
    return x[word];
}

fn store_x(at: u32, block: Block) {
    x[at / WIDTH] = block;
}

fn summed(first: Block, second: Block) -> Block {
    var v = unpack(first);
    let w = unpack(second);
    for (var k = 0u; k < WIDTH; k++) {
        v[k] += w[k];
    }
    return pack(v);
}
