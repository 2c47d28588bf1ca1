// Derf: f = erf(alpha x + shift).

fn argument(alpha_value: f32, x_value: f32, shift_value: f32) -> f32 {
    return alpha_value * x_value + shift_value;
}

fn curve(u: f32) -> f32 {
    return erf_derf(u);
}

// f and f'.
fn curve_both(u: f32) -> vec2<f32> {
    return erf_both(u);
}

fn shift_value() -> f32 {
    return shift[params.shift_start];
}
