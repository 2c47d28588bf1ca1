// beta of a column, in the tensor's type or in f32; -0 where there is none: +0 would change -0.
fn beta_of(column: u32) -> f32 {
    if !has(HAS_BETA) {
        return -0.0;
    }
    let at = params.beta_start + column;
    if has(PARAMETERS_F32) {
        return bitcast<f32>(beta[at]);
    }
    return widen((beta[at / 2u] >> (16u * (at & 1u))) & 0xffffu);
}
