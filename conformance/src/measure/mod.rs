//! What is measured, the same for the command and for criterion: the [`grid`] of shapes and dtypes, the [`workload`]
//! of one op on warm buffers, and the [`copy`] of the same bytes that its speed is compared with.

pub mod copy;
pub mod grid;
pub mod workload;

pub use copy::Baseline;
pub use grid::Point;
pub use workload::{Layer, Tensors, Workload, moved_bytes};
