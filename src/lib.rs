//! Fused forward and backward kernels for the layers that stand where normalisation stands in a Transformer:
//! DyT and Derf, LayerNorm and RMSNorm, for f32, f16 and bf16.
//!
//! A [`Problem`] says what is to be computed and is validated once; a [`Device`] runs it on the caller's buffers,
//! which [`Forward`] and [`Backward`] name. Nothing is copied or kept, and nothing is allocated but the workspace of
//! [`Device::backward`], which [`Device::backward_with`] takes from the caller.
//!
//! | op | y | statistics |
//! |---|---|---|
//! | [`Op::Dyt`] | gamma·tanh(alpha·x) + beta | none |
//! | [`Op::Derf`] | gamma·erf(alpha·x + shift) + beta | none |
//! | [`Op::LayerNorm`] | (x − mean)·rstd·gamma + beta | mean, rstd |
//! | [`Op::RmsNorm`] | x·rstd·gamma + beta | rstd |
//!
//! Arithmetic is f32 whatever the storage type; `docs/numerics.md` has the error bounds, and the feature
//! `reference` the formulas in f64. The result of a row's forward does not depend on the other rows, and the
//! gradients of parameters are the same bits for any number of threads.
//!
//! [`Device::auto`] chooses the device. The environment variables `DYT_BACKEND` (a name that [`Device::open`] takes) and
//! `DYT_CPU_LEVEL` (a [`Level`] by name) choose another.

mod buffer;
mod cpu;
#[cfg(has_cuda)]
pub mod cuda;
mod device;
mod dtype;
mod error;
mod layout;
mod ops;
mod problem;
mod quant;
#[cfg(feature = "reference")]
pub mod reference;
mod view;
#[cfg(has_wgpu)]
pub mod wgpu;

pub use buffer::Buffer;
pub use cpu::Level;
pub use device::{Backend, Candidate, Device};
pub use dtype::{DType, Element, Storage};
pub use error::{Argument, Error, Refusal, Result};
pub use float8;
pub use half;
pub use ops::{Backward, Dsum, Forward, Residual, WithoutDy};
pub use problem::{Op, Pass, Problem, ProblemBuilder, Std};
pub use quant::Quant;
pub use view::{View, ViewMut};

/// The example of README.md, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of docs/using.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/using.md")]
struct Using;
