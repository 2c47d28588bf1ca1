//! The arguments of a call: named fields, checked against a [`Problem`] before anything is written.

mod backward;
mod check;
mod forward;

pub use backward::{Backward, Dsum, WithoutDy};
pub use forward::{Forward, Residual};

pub(crate) use backward::BackwardPtrs;
pub(crate) use check::Memory;
pub(crate) use forward::ForwardPtrs;
