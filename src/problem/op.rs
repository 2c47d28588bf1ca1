//! The ops, their forms and their directions.

use core::fmt;

/// The op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// y = gamma·tanh(alpha·x) + beta. Zhu et al. 2025, arXiv 2503.10622.
    Dyt,
    /// y = gamma·erf(alpha·x + shift) + beta. Chen et al. 2025, arXiv 2512.10938.
    Derf,
    /// y = (x − mean)·rstd·gamma + beta, rstd by [`Std`]. Ba et al. 2016, arXiv 1607.06450.
    LayerNorm,
    /// y = x·rstd·gamma + beta with rstd = 1/√(Σx²/cols + eps). Zhang and Sennrich 2019, arXiv 1910.07467.
    RmsNorm,
}

impl Op {
    /// Every op.
    pub const ALL: [Self; 4] = [Self::Dyt, Self::Derf, Self::LayerNorm, Self::RmsNorm];

    /// The name in snake case: `dyt`, `derf`, `layer_norm`, `rms_norm`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dyt => "dyt",
            Self::Derf => "derf",
            Self::LayerNorm => "layer_norm",
            Self::RmsNorm => "rms_norm",
        }
    }

    /// Whether the op works element by element: it takes `alpha`, and has no statistics.
    #[must_use]
    pub const fn is_pointwise(self) -> bool {
        match self {
            Self::Dyt | Self::Derf => true,
            Self::LayerNorm | Self::RmsNorm => false,
        }
    }

    /// Whether the op takes `shift`.
    #[must_use]
    pub const fn has_shift(self) -> bool {
        match self {
            Self::Derf => true,
            Self::Dyt | Self::LayerNorm | Self::RmsNorm => false,
        }
    }

    /// Whether the op takes and gives `mean`.
    #[must_use]
    pub const fn has_mean(self) -> bool {
        match self {
            Self::LayerNorm => true,
            Self::Dyt | Self::Derf | Self::RmsNorm => false,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How LayerNorm makes `rstd` from the deviations from the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Std {
    /// rstd = 1/√(Σ(x−mean)²/cols + eps); the usual LayerNorm.
    #[default]
    Biased,
    /// rstd = 1/(√(Σ(x−mean)²/(cols−1)) + eps); the form of the Annotated Transformer. It needs two columns, and where
    /// the deviation is 0 its derivative counts as 0.
    Unbiased,
}

/// The direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// From x to y.
    Forward,
    /// From dy to dx and the gradients of the parameters.
    Backward,
}

impl Pass {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Backward];

    /// The name in lower case: `forward` or `backward`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
