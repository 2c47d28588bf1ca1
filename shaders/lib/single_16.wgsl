// Blocks of one value, of a 16-bit type.

const WIDTH: u32 = 1u;
alias Values = array<f32, WIDTH>;
alias Block = u32;

fn unpack(block: Block) -> Values {
    return Values(widen(block));
}
