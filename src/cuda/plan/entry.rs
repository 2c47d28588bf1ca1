//! The kernels by name.

use super::args;
use crate::{DType, Op, Pass};

/// dtype and param_dtype, in each pair that a problem may have.
const STORAGE: [(DType, DType); 5] = [
    (DType::F32, DType::F32),
    (DType::F16, DType::F16),
    (DType::F16, DType::F32),
    (DType::Bf16, DType::Bf16),
    (DType::Bf16, DType::F32),
];

/// How a kernel goes through memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// By 16 bytes; a norm keeps the row in registers.
    Vector,
    /// By elements, for what is not aligned to 16 bytes; a norm keeps the row in registers.
    Scalar,
    /// Norms alone: a row longer than registers hold, by 16 bytes.
    LongVector,
    /// Norms alone: a row longer than registers hold, by elements.
    LongScalar,
    /// Norms alone: channels-first data, by elements.
    First,
}

impl Form {
    /// Every form of the norms.
    pub const ALL: [Self; 5] = [Self::Vector, Self::Scalar, Self::LongVector, Self::LongScalar, Self::First];

    const fn index(self) -> usize {
        match self {
            Self::Vector => 0,
            Self::Scalar => 1,
            Self::LongVector => 2,
            Self::LongScalar => 3,
            Self::First => 4,
        }
    }
}

/// A kernel of `kernels/*.cu`: which op, pass, storage and form it is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Entry {
    /// The first stage of an op.
    Op {
        /// The op.
        op: Op,
        /// The direction.
        pass: Pass,
        /// Storage type of x, y, dy and dx.
        dtype: DType,
        /// Storage type of gamma and beta.
        param_dtype: DType,
        /// How it goes through memory.
        form: Form,
    },
    /// The second stage of every backward.
    Fold,
}

/// The names of one op, pass and form, in the order of [`STORAGE`].
macro_rules! names {
    ($op:literal, $pass:literal, $form:literal) => {
        [
            concat!("dyt_", $op, "_", $pass, "_f32_f32_", $form),
            concat!("dyt_", $op, "_", $pass, "_f16_f16_", $form),
            concat!("dyt_", $op, "_", $pass, "_f16_f32_", $form),
            concat!("dyt_", $op, "_", $pass, "_bf16_bf16_", $form),
            concat!("dyt_", $op, "_", $pass, "_bf16_f32_", $form),
        ]
    };
    (pointwise $op:literal) => {
        [
            [names!($op, "fwd", "vector"), names!($op, "fwd", "scalar")],
            [names!($op, "bwd", "vector"), names!($op, "bwd", "scalar")],
        ]
    };
    (norm $op:literal) => {
        [names!(norm $op, "fwd"), names!(norm $op, "bwd")]
    };
    (norm $op:literal, $pass:literal) => {
        [
            names!($op, $pass, "vector"),
            names!($op, $pass, "scalar"),
            names!($op, $pass, "long_vector"),
            names!($op, $pass, "long_scalar"),
            names!($op, $pass, "first"),
        ]
    };
}

/// By op, pass, form and storage.
const POINTWISE: [[[[&str; 5]; 2]; 2]; 2] = [names!(pointwise "dyt"), names!(pointwise "derf")];
/// By op, pass, form and storage.
const NORMS: [[[[&str; 5]; 5]; 2]; 2] = [names!(norm "layer_norm"), names!(norm "rms_norm")];

impl Entry {
    /// The name of the function in the PTX, such as `dyt_layer_norm_fwd_bf16_f32_vector`.
    #[must_use]
    pub fn name(self) -> &'static str {
        let Self::Op { op, pass, dtype, param_dtype, form } = self else { return "dyt_fold" };
        let storage = STORAGE.iter().position(|pair| *pair == (dtype, param_dtype)).unwrap_or(0);
        let pass = match pass {
            Pass::Forward => 0,
            Pass::Backward => 1,
        };
        match op {
            // The plan gives a pointwise op no other form than the first two.
            Op::Dyt => POINTWISE[0][pass][form.index().min(1)][storage],
            Op::Derf => POINTWISE[1][pass][form.index().min(1)][storage],
            Op::LayerNorm => NORMS[0][pass][form.index()][storage],
            Op::RmsNorm => NORMS[1][pass][form.index()][storage],
        }
    }

    /// Every kernel.
    pub fn all() -> impl Iterator<Item = Self> {
        let ops = Op::ALL.into_iter().flat_map(|op| {
            let forms = if op.is_pointwise() { &Form::ALL[..2] } else { &Form::ALL[..] };
            Pass::ALL.into_iter().flat_map(move |pass| {
                forms.iter().flat_map(move |&form| {
                    STORAGE.into_iter().map(move |(dtype, param_dtype)| Self::Op {
                        op,
                        pass,
                        dtype,
                        param_dtype,
                        form,
                    })
                })
            })
        });
        ops.chain([Self::Fold])
    }

    /// Bytes of the parameter.
    #[must_use]
    pub const fn args_bytes(self) -> usize {
        match self {
            Self::Op { op: Op::Dyt | Op::Derf, pass: Pass::Forward, .. } => {
                size_of::<args::PointwiseForward>()
            }
            Self::Op { op: Op::Dyt | Op::Derf, pass: Pass::Backward, .. } => {
                size_of::<args::PointwiseBackward>()
            }
            Self::Op { op: Op::LayerNorm | Op::RmsNorm, pass: Pass::Forward, .. } => {
                size_of::<args::NormForward>()
            }
            Self::Op { op: Op::LayerNorm | Op::RmsNorm, pass: Pass::Backward, .. } => {
                size_of::<args::NormBackward>()
            }
            Self::Fold => size_of::<args::Fold>(),
        }
    }

    /// The file of `kernels/` that has it, without the extension.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Op { op: Op::Dyt | Op::Derf, .. } => "pointwise",
            Self::Op { op: Op::LayerNorm | Op::RmsNorm, form, .. } => match form {
                Form::Vector | Form::Scalar => "rownorm",
                Form::LongVector | Form::LongScalar => "rownorm_long",
                Form::First => "rownorm_first",
            },
            Self::Fold => "fold",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_entry_has_its_own_name() {
        let names: BTreeSet<_> = Entry::all().map(Entry::name).collect();
        assert_eq!(names.len(), Entry::all().count());
        assert_eq!(names.len(), 2 * 2 * 5 * 2 + 2 * 2 * 5 * 5 + 1);
        assert!(names.contains("dyt_rms_norm_bwd_bf16_f32_long_scalar"));
    }
}
