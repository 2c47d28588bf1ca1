//! The norms of BERT, Llama, Gemma and ConvNeXt as candle_transformers' model files use them, once with candle's layers
//! and once with these: the model files are the same, only what they `use` differs.

mod compare;
mod ours;
mod theirs;
