//! DyT, Derf, LayerNorm and RMSNorm as candle modules, forward and backward, by the fused kernels of [`dyt`].
//!
//! | module | y | parameters, by the names of the PyTorch reference |
//! |---|---|---|
//! | [`DynamicTanh`] | gamma·tanh(alpha·x) + beta | `alpha`, `weight` (gamma), `bias` (beta) |
//! | [`Derf`] | gamma·erf(alpha·x + shift) + beta | `alpha`, `shift`, `weight`, `bias` |
//! | [`LayerNorm`] | (x − mean)·rstd·gamma + beta | `weight`, `bias` |
//! | [`RmsNorm`] | x·rstd·gamma | `weight` |
//!
//! [`layer_norm`], [`rms_norm`], [`LayerNorm::new`] and the others have the names and arguments of candle_nn's, so that a
//! model changes its `use` line; [`transformers`] has the norms that candle_transformers' model files define. [`ops`] has
//! the same as functions of tensors. [`NormKind`] describes a norm in a model's configuration and builds a [`Norm`];
//! [`convert_norms`] turns the weights of a model with one kind into those of another.
//!
//! Tensors are f32, f16 or bf16, on the CPU or, with the feature `cuda`, on an NVIDIA GPU. candle's storage is read where
//! it lies: contiguous tensors with any offset, and channels-last views of channels-first data. Other layouts are made
//! contiguous first. One backward call gathers every gradient in a single pass, and only those that the graph asks for.
//! Gradients of gradients are not there.

mod alpha;
mod call;
mod convert;
#[cfg(feature = "cuda")]
mod cuda;
mod find;
mod fused;
mod load;
mod norm;
pub mod ops;
mod options;
mod place;
mod pointwise;
mod rownorm;
mod rows;
pub mod transformers;

pub use alpha::{DEFAULT_ALPHA, Position, llama_alpha};
pub use candle_nn::LayerNormConfig;
pub use convert::{Conversion, Converted, Left, convert_norms, convert_var_map};
pub use dyt::Std;
pub use norm::{Norm, NormKind};
pub use options::{Channels, Gamma};
pub use pointwise::{Derf, DynamicTanh, derf, dynamic_tanh};
pub use rownorm::{LayerNorm, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm};

/// The example of README.md, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
