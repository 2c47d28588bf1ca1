// DyT: f = tanh(alpha x).

fn argument(alpha_value: f32, x_value: f32, shift_value: f32) -> f32 {
    return alpha_value * x_value;
}

fn curve(u: f32) -> f32 {
    return tanh_dyt(u);
}

// f and f'.
fn curve_both(u: f32) -> vec2<f32> {
    return tanh_both(u);
}

fn shift_value() -> f32 {
    return 0.0;
}
