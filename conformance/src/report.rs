//! What a run tells: the worst element of each output, or the first thing that was wrong.

use core::fmt;

use dyt::reference::Place;

use crate::cases::Case;
use crate::tolerance::Measured;

/// An output of a forward or a backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the formulas")]
pub enum Output {
    Y,
    Sum,
    Scales,
    Mean,
    Rstd,
    Dx,
    Dalpha,
    Dshift,
    Dgamma,
    Dbeta,
}

impl Output {
    /// Every output.
    pub const ALL: [Self; 10] = [
        Self::Y,
        Self::Sum,
        Self::Scales,
        Self::Mean,
        Self::Rstd,
        Self::Dx,
        Self::Dalpha,
        Self::Dshift,
        Self::Dgamma,
        Self::Dbeta,
    ];

    /// The name in lower case, as in the formulas.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Y => "y",
            Self::Sum => "sum",
            Self::Scales => "scales",
            Self::Mean => "mean",
            Self::Rstd => "rstd",
            Self::Dx => "dx",
            Self::Dalpha => "dalpha",
            Self::Dshift => "dshift",
            Self::Dgamma => "dgamma",
            Self::Dbeta => "dbeta",
        }
    }

    /// The index of an element in this tensor.
    pub(crate) const fn index(self, place: Place) -> usize {
        match self {
            Self::Y => place.y,
            _ => place.at,
        }
    }

    /// Whether the backward writes it.
    #[must_use]
    pub const fn is_gradient(self) -> bool {
        match self {
            Self::Y | Self::Sum | Self::Scales | Self::Mean | Self::Rstd => false,
            Self::Dx | Self::Dalpha | Self::Dshift | Self::Dgamma | Self::Dbeta => true,
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The element of an output whose error is largest beside its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// The output.
    pub output: Output,
    /// |result − reference|.
    pub error: f64,
    /// The bound of that error; 0 where the result has to be exact, and is.
    pub bound: f64,
}

impl Worst {
    /// error / bound, and 0 where the result is exact.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        Measured { error: self.error, bound: self.bound }.ratio()
    }
}

/// A case that passed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// One entry for each output that the case asked for.
    pub worst: Vec<Worst>,
}

/// A case that did not pass.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A result is too far from the reference.
    #[error("{device}: {case}: {output}[{index}] is {got:e}, expected {expected:e} within {bound:e}")]
    Wrong {
        /// Which device.
        device: String,
        /// Which case.
        case: Box<Case>,
        /// Which output.
        output: Output,
        /// The index of the element in the output.
        index: usize,
        /// What the device computed.
        got: f32,
        /// What the reference computed.
        expected: f64,
        /// The largest error that the table allows.
        bound: f64,
    },
    /// The in-place form computed other bits than the out-of-place form.
    #[error("{device}: {case}: {output}[{index}] is {got:e} in place and {expected:e} out of place")]
    InPlace {
        /// Which device.
        device: String,
        /// Which case.
        case: Box<Case>,
        /// Which output.
        output: Output,
        /// The index of the element in the output.
        index: usize,
        /// The in-place result.
        got: f32,
        /// The out-of-place result.
        expected: f32,
    },
    /// Memory was written that is no element of an output.
    #[error(
        "{device}: {case}: {buffer} was written {offset} elements from its beginning, where no element is"
    )]
    Overwritten {
        /// Which device.
        device: String,
        /// Which case.
        case: Box<Case>,
        /// The output's name, or `workspace`.
        buffer: &'static str,
        /// Where, in elements from the beginning of the output; negative before it.
        offset: isize,
    },
    /// The device took a case that its kernels are said to lack.
    #[error("{device}: {case}: it took what its backend is said to lack; take that out of `lacks`")]
    NotRefused {
        /// Which device.
        device: String,
        /// Which case.
        case: Box<Case>,
    },
    /// The device returned an error.
    #[error("{device}: {case}: {source}")]
    Refused {
        /// Which device.
        device: String,
        /// Which case.
        case: Box<Case>,
        /// The error.
        source: dyt::Error,
    },
}
