//! The layers, against candle's own ops and as models use them.

mod composed;
mod convert;
#[cfg(feature = "cuda")]
mod cuda;
mod gradients;
mod layout;
mod modules;
mod quantised;
mod residual;
#[cfg(feature = "serde")]
mod serde;
