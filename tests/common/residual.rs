//! Additions in steps of their own, and the in-place forms of a residual.

use dyt::DType;
use dyt::half::{bf16, f16};

use super::Tensor;

/// The argument whose place an output takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Over {
    X,
    Residual,
}

/// What y and sum take the place of.
pub(crate) const FORMS: [(Option<Over>, Option<Over>); 7] = [
    (None, None),
    (Some(Over::X), None),
    (Some(Over::Residual), None),
    (None, Some(Over::X)),
    (None, Some(Over::Residual)),
    (Some(Over::X), Some(Over::Residual)),
    (Some(Over::Residual), Some(Over::X)),
];

/// The values of elements.
pub(crate) fn wide(dtype: DType, bits: &[u8]) -> Vec<f32> {
    let each = |bytes: &[u8]| match (dtype, bytes) {
        (DType::F32, &[a, b, c, d]) => f32::from_ne_bytes([a, b, c, d]),
        (DType::F16, &[a, b]) => f16::from_ne_bytes([a, b]).to_f32(),
        (DType::Bf16, &[a, b]) => bf16::from_ne_bytes([a, b]).to_f32(),
        _ => unreachable!("an element of {dtype} has {} bytes", bytes.len()),
    };
    bits.chunks_exact(dtype.size()).map(each).collect()
}

/// a + b, added in f32 and rounded once.
pub(crate) fn added(dtype: DType, a: &[u8], b: &[u8]) -> Tensor {
    let sums: Vec<f32> = wide(dtype, a).iter().zip(wide(dtype, b)).map(|(a, b)| a + b).collect();
    Tensor::new(dtype, &sums, 0)
}
