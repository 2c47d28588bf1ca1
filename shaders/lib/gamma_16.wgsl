// gamma of a column with its offset, in the tensor's type or in f32; 1 where there is none.
fn gamma_of(column: u32) -> f32 {
    if !has(HAS_GAMMA) {
        return 1.0;
    }
    let at = params.gamma_start + column;
    if has(PARAMETERS_F32) {
        return bitcast<f32>(gamma[at]) + params.gamma_offset;
    }
    return widen((gamma[at / 2u] >> (16u * (at & 1u))) & 0xffffu) + params.gamma_offset;
}
