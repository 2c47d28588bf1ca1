//! The arguments of a call, by name.

use core::fmt;

use crate::DType;

/// The name of an argument, the same in Rust, CUDA, WGSL, C and Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the formulas")]
#[non_exhaustive]
pub enum Argument {
    X,
    Residual,
    Sum,
    Alpha,
    Shift,
    Gamma,
    Beta,
    Y,
    Dy,
    Dsum,
    Dx,
    Dalpha,
    Dshift,
    Dgamma,
    Dbeta,
    Mean,
    Rstd,
    Scale,
    Scales,
    Workspace,
}

impl Argument {
    /// The name in lower case, as in the formulas.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Residual => "residual",
            Self::Sum => "sum",
            Self::Alpha => "alpha",
            Self::Shift => "shift",
            Self::Gamma => "gamma",
            Self::Beta => "beta",
            Self::Y => "y",
            Self::Dy => "dy",
            Self::Dsum => "dsum",
            Self::Dx => "dx",
            Self::Dalpha => "dalpha",
            Self::Dshift => "dshift",
            Self::Dgamma => "dgamma",
            Self::Dbeta => "dbeta",
            Self::Mean => "mean",
            Self::Rstd => "rstd",
            Self::Scale => "scale",
            Self::Scales => "scales",
            Self::Workspace => "workspace",
        }
    }

    /// What in a problem decides the dtype, as the end of an error; the other arguments are always f32.
    pub(super) const fn dtype_setter(self, expected: DType) -> &'static str {
        match self {
            Self::Y if matches!(expected, DType::Quant(_)) => "; for a problem, `quant` sets it",
            Self::X | Self::Residual | Self::Sum | Self::Y | Self::Dy | Self::Dsum | Self::Dx => {
                "; for a problem, `dtype` sets it"
            }
            Self::Gamma | Self::Beta => "; for a problem, `param_dtype` sets it",
            Self::Alpha | Self::Shift | Self::Dalpha | Self::Dshift | Self::Dgamma | Self::Dbeta => "",
            Self::Mean | Self::Rstd | Self::Scale | Self::Scales | Self::Workspace => "",
        }
    }

    /// The inputs whose place an output may take, as the end of an error.
    pub(super) const fn places(self) -> &'static str {
        match self {
            Self::Y => "y may take the place of x or residual, exactly, if it is not quantised",
            Self::Sum => "sum may take the place of x or residual, exactly",
            Self::Dx => "dx may take the place of dy or dsum, exactly",
            Self::X | Self::Residual | Self::Alpha | Self::Shift | Self::Gamma | Self::Beta => APART,
            Self::Dy | Self::Dsum | Self::Dalpha | Self::Dshift | Self::Dgamma | Self::Dbeta => APART,
            Self::Mean | Self::Rstd | Self::Scale | Self::Scales | Self::Workspace => APART,
        }
    }
}

/// The same for any other output.
const APART: &str = "it has to be apart";

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
