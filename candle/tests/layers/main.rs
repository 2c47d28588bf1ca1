//! The layers, against candle's own ops and as models use them.

mod composed;
#[cfg(feature = "cuda")]
mod cuda;
mod gradients;
mod modules;
