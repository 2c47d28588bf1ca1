// Quantised y: v / s, rounded to one byte. A word has four elements, which may belong to several lanes or rows, or to a gap:
// bytes are written by atomics, so that none is lost, and whole words at once.
//
// What is not finite is told by its bits, since a driver may compute as if there were none.

const INFINITY_BITS: u32 = 0x7f800000u;
const SIGN_BIT: u32 = 0x80000000u;

// The largest value of the type.
fn largest_code() -> f32 {
    if has(QUANT_F8E4M3) {
        return 448.0;
    }
    return select(127.0, 57344.0, has(QUANT_F8E5M2));
}

// |v| as bits, which are in the order of the values; 0 for a NaN.
fn size_bits(v: f32) -> u32 {
    let bits = bitcast<u32>(v) & ~SIGN_BIT;
    return select(bits, 0u, bits > INFINITY_BITS);
}

// The scale of a row, from the bits of its largest |v|.
fn scale_of(most: u32) -> f32 {
    if most == 0u {
        return 1.0;
    }
    if most == INFINITY_BITS {
        return bitcast<f32>(most);
    }
    // At least the least normal number.
    return bitcast<f32>(max(bitcast<u32>(bitcast<f32>(most) / largest_code()), 0x00800000u));
}

// The code of the quotient of a sign and a magnitude, which is at most the largest value.
fn code_of_quotient(sign: u32, size: u32) -> u32 {
    if !has(QUANT_F8E4M3 | QUANT_F8E5M2) {
        // 2^23: a number added to it is rounded to an integer, which stands in the lowest bits.
        let whole = bitcast<u32>(bitcast<f32>(size) + 8388608.0) & 0xffu;
        return select(whole, 256u - whole, sign != 0u) & 0xffu;
    }
    let four = has(QUANT_F8E4M3);
    let drop = select(21u, 20u, four);
    // A normal code: what f32 has beyond its fraction is rounded off, and the bias of the exponent is another.
    let rounded = (size + (1u << (drop - 1u)) - 1u + ((size >> drop) & 1u)) >> drop;
    let normal = rounded - select(112u << 2u, 120u << 3u, four);
    // A subnormal one: multiples of the least number, by adding a power of two of which that is the ulp.
    let unit = select(0x1p7f, 0x1p14f, four);
    let subnormal = bitcast<u32>(bitcast<f32>(size) + unit) & 0xffu;
    let least = select(0x1p-14f, 0x1p-6f, four);
    return select(normal, subnormal, size < bitcast<u32>(least)) | (sign >> 24u);
}

// The byte of v, divided by s.
fn code_of(v: f32, s: f32) -> u32 {
    let sign = (bitcast<u32>(v) ^ bitcast<u32>(s)) & SIGN_BIT;
    let v_size = bitcast<u32>(v) & ~SIGN_BIT;
    let s_size = bitcast<u32>(s) & ~SIGN_BIT;
    let limit = bitcast<u32>(largest_code());
    if max(v_size, s_size) > INFINITY_BITS || min(v_size, s_size) == INFINITY_BITS {
        return select(0u, 0x7fu, has(QUANT_F8E4M3 | QUANT_F8E5M2));
    }
    if v_size == INFINITY_BITS {
        return code_of_quotient(sign, limit);
    }
    if s_size == INFINITY_BITS {
        return code_of_quotient(sign, 0u);
    }
    return code_of_quotient(sign, min(bitcast<u32>(v / s) & ~SIGN_BIT, limit));
}

fn store_byte(at: u32, code: u32) {
    let shift = 8u * (at & 3u);
    atomicAnd(&out[at / 4u], ~(0xffu << shift));
    atomicOr(&out[at / 4u], code << shift);
}
