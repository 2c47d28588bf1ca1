//! What a model's configuration says of a layer, beside its kind.

use candle_core::{DType, Result, Tensor, bail};

/// The dimension along which parameters run, and over which the norms take their statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Channels {
    /// The last one.
    #[default]
    Last,
    /// The second one, as in `N × C × H × W`.
    First,
}

impl Channels {
    pub(crate) fn axis(self, rank: usize) -> Result<usize> {
        match self {
            Self::Last if rank > 0 => Ok(rank - 1),
            Self::First if rank > 1 => Ok(1),
            _ => bail!("a tensor of {rank} dimensions has no channels as {self:?}"),
        }
    }
}

/// How a norm reads gamma from its `weight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Gamma {
    /// gamma = weight.
    #[default]
    Weight,
    /// gamma = 1 + weight, as in Gemma's RMSNorm and in the LayerNorm1P of Megatron and Nemotron.
    OnePlusWeight,
}

impl Gamma {
    /// gamma − weight.
    pub(crate) const fn offset(self) -> f64 {
        match self {
            Self::Weight => 0.0,
            Self::OnePlusWeight => 1.0,
        }
    }
    /// The weight for which gamma is 1.
    pub(crate) const fn initial(self) -> f64 {
        1.0 - self.offset()
    }
    /// The weight by which `other` reads the same gamma. It is f32 where it differs: near 1, bf16 has steps of 1/128.
    pub(crate) fn exchanged(self, weight: &Tensor, other: Self) -> Result<Tensor> {
        if self == other {
            return Ok(weight.clone());
        }
        weight.to_dtype(DType::F32)? + (self.offset() - other.offset())
    }
}
