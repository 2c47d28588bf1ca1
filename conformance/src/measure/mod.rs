//! What is measured, the same for the command and for criterion: the [`grid`] of shapes and dtypes, the [`workload`]
//! of every op on warm buffers, the [`copy`] of the same bytes that its speed is compared with, and how samples of
//! all of them are taken in turns ([`interleave`]).

pub mod copy;
pub mod grid;
pub mod interleave;
pub mod workload;

pub use copy::Baseline;
pub use grid::Point;
pub use workload::{Contender, Workload, moved_bytes, tensors};
