//! What a case chooses among.

use core::fmt;

use dyt::Quant;

use crate::report::Output;

/// Which gradients the backward is asked for, among those that the op has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gradients {
    /// Every one.
    All,
    /// dx alone: the parameters are frozen.
    DxOnly,
    /// All but dx: the first layer.
    ParametersOnly,
    /// A single one.
    Only(Output),
}

impl Gradients {
    /// Every choice.
    pub const ALL: [Self; 7] = [
        Self::All,
        Self::DxOnly,
        Self::ParametersOnly,
        Self::Only(Output::Dalpha),
        Self::Only(Output::Dshift),
        Self::Only(Output::Dgamma),
        Self::Only(Output::Dbeta),
    ];

    pub(super) fn asks(self, output: Output) -> bool {
        match self {
            Self::All => true,
            Self::DxOnly => output == Output::Dx,
            Self::ParametersOnly => output != Output::Dx,
            Self::Only(one) => output == one,
        }
    }
}

impl fmt::Display for Gradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::DxOnly => f.pad("dx"),
            Self::ParametersOnly => f.pad("parameters"),
            Self::Only(output) => output.fmt(f),
        }
    }
}

/// Which statistics the forward saves and hands to the backward; an op without statistics has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// All that the op has.
    Saved,
    /// None: the backward computes them again.
    Recomputed,
    /// The mean alone.
    MeanOnly,
    /// rstd alone.
    RstdOnly,
}

impl Statistics {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Saved, Self::Recomputed, Self::MeanOnly, Self::RstdOnly];
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Saved => "saved",
            Self::Recomputed => "recomputed",
            Self::MeanOnly => "mean",
            Self::RstdOnly => "rstd",
        })
    }
}

/// How y is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quantised {
    /// The type of y.
    pub quant: Quant,
    /// Whether each row has a scale of its own.
    pub by_row: bool,
}

impl Quantised {
    /// Every way.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let both = |quant| [false, true].map(|by_row| Self { quant, by_row });
        Quant::ALL.into_iter().flat_map(both).collect()
    }
}
