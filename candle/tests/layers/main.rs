//! The layers, against candle's own ops and as models use them.

mod composed;
mod gradients;
mod modules;
