//! From the storage of a problem to types.

use half::{bf16, f16};

use crate::cpu::stored::Stored;
use crate::{Problem, Storage};

/// Code that is generic over the storage types of a problem.
pub(crate) trait Typed {
    /// `T` stores x, y, dy and dx; `P` gamma and beta.
    fn call<T: Stored, P: Stored>(self);
}

/// Calls `code` with the problem's storage types.
pub(crate) fn with_types<C: Typed>(problem: &Problem, code: C) {
    match problem.storage() {
        Storage::F32 => code.call::<f32, f32>(),
        Storage::F16 => code.call::<f16, f16>(),
        Storage::F16ParamsF32 => code.call::<f16, f32>(),
        Storage::Bf16 => code.call::<bf16, bf16>(),
        Storage::Bf16ParamsF32 => code.call::<bf16, f32>(),
    }
}
