//! The models with this crate's norms.

#![expect(clippy::duplicate_mod, reason = "the same files with the norms of this crate")]

/// What the model files `use`.
mod norms {
    pub(super) use dyt_candle::transformers::GemmaRmsNorm;
    pub(super) use dyt_candle::transformers::RmsNorm as LlamaRmsNorm;
    pub(super) use dyt_candle::{LayerNorm, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm};
}

#[path = "bert.rs"]
pub(crate) mod bert;
#[path = "convnext.rs"]
pub(crate) mod convnext;
#[path = "decoder.rs"]
mod decoder;
#[path = "gemma.rs"]
pub(crate) mod gemma;
#[path = "llama.rs"]
pub(crate) mod llama;
#[path = "plain.rs"]
pub(crate) mod plain;
