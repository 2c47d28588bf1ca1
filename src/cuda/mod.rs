//! NVIDIA GPUs.

pub mod plan;
