// Blocks of one value, of f32.

const WIDTH: u32 = 1u;
alias Values = array<f32, WIDTH>;
alias Block = u32;

fn unpack(block: Block) -> Values {
    return Values(bitcast<f32>(block));
}
