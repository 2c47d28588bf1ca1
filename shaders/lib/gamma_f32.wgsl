// gamma of a column with its offset; 1 where there is none.
fn gamma_of(column: u32) -> f32 {
    if !has(HAS_GAMMA) {
        return 1.0;
    }
    return bitcast<f32>(gamma[params.gamma_start + column]) + params.gamma_offset;
}
