//! From the dtypes of a problem to types: the one place that lists the pairs.

use half::{bf16, f16};

use crate::dtype::Storage;
use crate::{DType, Problem};

/// Code that is generic over the storage types of a problem.
pub(crate) trait Typed {
    /// `T` stores x, y, dy and dx; `P` gamma and beta.
    fn call<T: Storage, P: Storage>(self);
}

/// Calls `code` with the problem's storage types.
pub(crate) fn with_types<C: Typed>(problem: &Problem, code: C) {
    match (problem.dtype(), problem.param_dtype()) {
        // A problem's parameters are stored as its data or as f32.
        (DType::F32, _) => code.call::<f32, f32>(),
        (DType::F16, DType::F32) => code.call::<f16, f32>(),
        (DType::F16, DType::F16 | DType::Bf16) => code.call::<f16, f16>(),
        (DType::Bf16, DType::F32) => code.call::<bf16, f32>(),
        (DType::Bf16, DType::F16 | DType::Bf16) => code.call::<bf16, bf16>(),
    }
}
