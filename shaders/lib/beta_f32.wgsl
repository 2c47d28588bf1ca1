// beta of a column; -0 where there is none: +0 would change -0.
fn beta_of(column: u32) -> f32 {
    if !has(HAS_BETA) {
        return -0.0;
    }
    return bitcast<f32>(beta[params.beta_start + column]);
}
