// f16 in the lower half of a word. By integers, because drivers differ in what their own conversions do to subnormals
// and how they round.

fn widen(half_bits: u32) -> f32 {
    let magnitude = half_bits & 0x7fffu;
    let normal = (magnitude << 13u) + 0x38000000u;
    let special = (magnitude << 13u) | 0x7f800000u;
    // In units of 2^-24.
    let subnormal = bitcast<u32>(f32(magnitude) * 5.9604645e-8);
    let bits = select(select(normal, special, magnitude >= 0x7c00u), subnormal, magnitude < 0x0400u);
    return bitcast<f32>(((half_bits & 0x8000u) << 16u) | bits);
}

// To nearest even.
fn narrow(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return sign | 0x7e00u;
    }
    // From 65,520 on, which lies half a step above the largest.
    if magnitude >= 0x477ff000u {
        return sign | 0x7c00u;
    }
    if magnitude >= 0x38800000u {
        return sign | ((magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13u) & 1u)) >> 13u);
    }
    // Subnormal: a multiple of 2^-24.
    let shift = min(126u - (magnitude >> 23u), 25u);
    let whole = (magnitude & 0x7fffffu) | 0x800000u;
    return sign | ((whole + (1u << (shift - 1u)) - 1u + ((whole >> shift) & 1u)) >> shift);
}
