//! The kernels by name.

use super::args;
use crate::{DType, Op, Pass};

/// The ops whose elements depend on themselves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the op of that name")]
pub enum Pointwise {
    Dyt,
    Derf,
}

/// The ops that take the statistics of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the op of that name")]
pub enum Norm {
    LayerNorm,
    RmsNorm,
}

/// An op, by the family whose kernels it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Pointwise(Pointwise),
    Norm(Norm),
}

impl From<Op> for Family {
    fn from(op: Op) -> Self {
        match op {
            Op::Dyt => Self::Pointwise(Pointwise::Dyt),
            Op::Derf => Self::Pointwise(Pointwise::Derf),
            Op::LayerNorm => Self::Norm(Norm::LayerNorm),
            Op::RmsNorm => Self::Norm(Norm::RmsNorm),
        }
    }
}

/// How a kernel of DyT or Derf goes through memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PointwiseForm {
    /// By 16 bytes, for tensors of this type.
    Vector(DType),
    /// By elements of any type, for what is not aligned to 16 bytes.
    Scalar,
    /// Calls with options, of any type.
    Options,
}

impl PointwiseForm {
    /// Every form.
    pub const ALL: [Self; 5] = [
        Self::Vector(DType::F32),
        Self::Vector(DType::F16),
        Self::Vector(DType::Bf16),
        Self::Scalar,
        Self::Options,
    ];
}

/// How a kernel of LayerNorm or RMSNorm goes through memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormForm {
    /// By 16 bytes, for tensors of this type; the row stays in registers.
    Vector(DType),
    /// By elements of any type, for what is not aligned to 16 bytes; the row stays in registers.
    Scalar,
    /// By 16 bytes, for tensors of this type; the row is longer than registers hold.
    LongVector(DType),
    /// By elements of any type; the row is longer than registers hold.
    LongScalar,
    /// Channels-first data, by elements of any type.
    First,
    /// Calls with options, of any type but a backward of f16: by 16 bytes; the row stays in registers.
    Options,
    /// A backward of f16 with options: by 16 bytes; the row stays in registers.
    OptionsF16,
    /// All other calls with options, of any type.
    LongOptions,
}

impl NormForm {
    /// Every form.
    pub const ALL: [Self; 12] = [
        Self::Vector(DType::F32),
        Self::Vector(DType::F16),
        Self::Vector(DType::Bf16),
        Self::Scalar,
        Self::LongVector(DType::F32),
        Self::LongVector(DType::F16),
        Self::LongVector(DType::Bf16),
        Self::LongScalar,
        Self::First,
        Self::Options,
        Self::OptionsF16,
        Self::LongOptions,
    ];

    /// Whether it is that of channels-first data, whose rows are the positions along inner.
    pub(super) const fn is_first(self) -> bool {
        match self {
            Self::First => true,
            Self::Vector(_) | Self::Scalar | Self::LongVector(_) | Self::LongScalar => false,
            Self::Options | Self::OptionsF16 | Self::LongOptions => false,
        }
    }

    /// The form whose kernels take calls with options that would go through memory like this.
    pub(super) const fn with_options(self, pass: Pass) -> Self {
        match (self, pass) {
            (Self::Vector(DType::F16), Pass::Backward) => Self::OptionsF16,
            (Self::Vector(_), _) => Self::Options,
            _ => Self::LongOptions,
        }
    }

    /// Whether there are kernels of this form for a pass.
    fn serves(self, pass: Pass) -> bool {
        pass == Pass::Backward || self != Self::OptionsF16
    }
}

/// A kernel of `kernels/*.cu`. The storage type of gamma and beta is an argument, and so is that of the tensors where the
/// form has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The first stage of DyT or Derf.
    Pointwise {
        /// The op.
        op: Pointwise,
        /// The direction.
        pass: Pass,
        /// How it goes through memory.
        form: PointwiseForm,
    },
    /// The first stage of LayerNorm or RMSNorm.
    Norm {
        /// The op.
        op: Norm,
        /// The direction.
        pass: Pass,
        /// How it goes through memory.
        form: NormForm,
    },
    /// The second stage of every backward.
    Fold,
}

/// `dyt_OP_PASS_DTYPE_FORM`.
macro_rules! typed {
    ($op:literal, $pass:literal, $dtype:expr, $form:literal) => {
        match $dtype {
            // Data has no type of a quantised y.
            DType::F32 | DType::Quant(_) => concat!("dyt_", $op, "_", $pass, "_f32_", $form),
            DType::F16 => concat!("dyt_", $op, "_", $pass, "_f16_", $form),
            DType::Bf16 => concat!("dyt_", $op, "_", $pass, "_bf16_", $form),
        }
    };
}

/// The name of each form of a pass of DyT or Derf.
macro_rules! pointwise {
    ($op:literal, $pass:literal, $form:expr) => {
        match $form {
            PointwiseForm::Vector(dtype) => typed!($op, $pass, dtype, "vector"),
            PointwiseForm::Scalar => concat!("dyt_", $op, "_", $pass, "_scalar"),
            PointwiseForm::Options => concat!("dyt_", $op, "_", $pass, "_options"),
        }
    };
}

/// The name of each form of a pass of LayerNorm or RMSNorm.
macro_rules! norm {
    ($op:literal, $pass:literal, $form:expr) => {
        match $form {
            NormForm::Vector(dtype) => typed!($op, $pass, dtype, "vector"),
            NormForm::Scalar => concat!("dyt_", $op, "_", $pass, "_scalar"),
            NormForm::LongVector(dtype) => typed!($op, $pass, dtype, "long_vector"),
            NormForm::LongScalar => concat!("dyt_", $op, "_", $pass, "_long_scalar"),
            NormForm::First => concat!("dyt_", $op, "_", $pass, "_first"),
            NormForm::Options => concat!("dyt_", $op, "_", $pass, "_options"),
            NormForm::OptionsF16 => concat!("dyt_", $op, "_", $pass, "_f16_options"),
            NormForm::LongOptions => concat!("dyt_", $op, "_", $pass, "_long_options"),
        }
    };
}

impl Entry {
    /// The name of the function in the PTX, such as `dyt_layer_norm_fwd_bf16_vector` or `dyt_derf_bwd_scalar`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pointwise { op, pass, form } => match (op, pass) {
                (Pointwise::Dyt, Pass::Forward) => pointwise!("dyt", "fwd", form),
                (Pointwise::Dyt, Pass::Backward) => pointwise!("dyt", "bwd", form),
                (Pointwise::Derf, Pass::Forward) => pointwise!("derf", "fwd", form),
                (Pointwise::Derf, Pass::Backward) => pointwise!("derf", "bwd", form),
            },
            Self::Norm { op, pass, form } => match (op, pass) {
                (Norm::LayerNorm, Pass::Forward) => norm!("layer_norm", "fwd", form),
                (Norm::LayerNorm, Pass::Backward) => norm!("layer_norm", "bwd", form),
                (Norm::RmsNorm, Pass::Forward) => norm!("rms_norm", "fwd", form),
                (Norm::RmsNorm, Pass::Backward) => norm!("rms_norm", "bwd", form),
            },
            Self::Fold => "dyt_fold",
        }
    }

    /// Every kernel.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_family = |family, pass| -> Vec<Self> {
            match family {
                Family::Pointwise(op) => {
                    PointwiseForm::ALL.map(|form| Self::Pointwise { op, pass, form }).into()
                }
                Family::Norm(op) => {
                    let forms = NormForm::ALL.into_iter().filter(|form| form.serves(pass));
                    forms.map(|form| Self::Norm { op, pass, form }).collect()
                }
            }
        };
        let ops = Op::ALL
            .into_iter()
            .flat_map(move |op| Pass::ALL.into_iter().flat_map(move |pass| of_family(op.into(), pass)));
        ops.chain([Self::Fold])
    }

    /// Bytes of the parameter.
    #[must_use]
    pub const fn args_bytes(self) -> usize {
        let options = if self.has_options() { size_of::<args::Options>() } else { 0 };
        options + self.plain_bytes()
    }

    /// Whether tensors of this storage type come to the kernel.
    #[must_use]
    pub fn takes(self, dtype: DType) -> bool {
        match self {
            Self::Pointwise { form: PointwiseForm::Vector(of), .. }
            | Self::Norm { form: NormForm::Vector(of) | NormForm::LongVector(of), .. } => of == dtype,
            Self::Norm { form: NormForm::OptionsF16, .. } => dtype == DType::F16,
            Self::Norm { pass: Pass::Backward, form: NormForm::Options, .. } => dtype != DType::F16,
            Self::Pointwise { .. } | Self::Norm { .. } | Self::Fold => true,
        }
    }

    /// Whether the kernel takes options.
    const fn has_options(self) -> bool {
        match self {
            Self::Pointwise { form, .. } => matches!(form, PointwiseForm::Options),
            Self::Norm { form, .. } => {
                matches!(form, NormForm::Options | NormForm::OptionsF16 | NormForm::LongOptions)
            }
            Self::Fold => false,
        }
    }

    const fn plain_bytes(self) -> usize {
        match self {
            Self::Pointwise { pass: Pass::Forward, .. } => size_of::<args::PointwiseForward>(),
            Self::Pointwise { pass: Pass::Backward, .. } => size_of::<args::PointwiseBackward>(),
            Self::Norm { pass: Pass::Forward, .. } => size_of::<args::NormForward>(),
            Self::Norm { pass: Pass::Backward, .. } => size_of::<args::NormBackward>(),
            Self::Fold => size_of::<args::Fold>(),
        }
    }

    /// The files of `kernels/` that have kernels, without the extension.
    pub const FILES: [&str; 8] = [
        "fold",
        "pointwise",
        "pointwise_options",
        "rownorm",
        "rownorm_first",
        "rownorm_long",
        "rownorm_long_options",
        "rownorm_options",
    ];

    /// The file of `kernels/` that has it, without the extension: one of [`Self::FILES`].
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Pointwise { form: PointwiseForm::Options, .. } => "pointwise_options",
            Self::Pointwise { .. } => "pointwise",
            Self::Norm { form: NormForm::Vector(_) | NormForm::Scalar, .. } => "rownorm",
            Self::Norm { form: NormForm::LongVector(_) | NormForm::LongScalar, .. } => "rownorm_long",
            Self::Norm { form: NormForm::First, .. } => "rownorm_first",
            Self::Norm { form: NormForm::Options | NormForm::OptionsF16, .. } => "rownorm_options",
            Self::Norm { form: NormForm::LongOptions, .. } => "rownorm_long_options",
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
        assert_eq!(names.len(), 2 * 2 * (3 + 1 + 1) + 2 * 2 * (3 + 1 + 3 + 1 + 1 + 2) + 2 + 1);
        assert!(names.contains("dyt_rms_norm_bwd_bf16_long_vector") && names.contains("dyt_derf_fwd_scalar"));
    }

    #[test]
    fn the_files_are_those_of_the_entries() {
        let files: BTreeSet<_> = Entry::all().map(Entry::file).collect();
        assert_eq!(files, Entry::FILES.into());
    }

    #[test]
    fn the_name_says_the_op_and_the_pass() {
        for op in Op::ALL {
            for (pass, short) in [(Pass::Forward, "fwd"), (Pass::Backward, "bwd")] {
                let begin = format!("dyt_{op}_{short}_");
                let forms = if op.is_pointwise() { 5 } else { 11 + usize::from(pass == Pass::Backward) };
                let named: Vec<_> = Entry::all().filter(|entry| entry.name().starts_with(&begin)).collect();
                assert!(named.iter().all(|entry| match *entry {
                    Entry::Pointwise { op: of, pass: to, .. } =>
                        (Family::Pointwise(of), to) == (op.into(), pass),
                    Entry::Norm { op: of, pass: to, .. } => (Family::Norm(of), to) == (op.into(), pass),
                    Entry::Fold => false,
                }));
                assert_eq!(named.len(), forms, "{begin}");
            }
        }
    }
}
