//! What the benchmarks measure, the same for the command, for criterion and beside other libraries: the [`grid`] of
//! shapes and dtypes, the [`Workload`] of every op on warm buffers, the [`Baseline`]s that move the same bytes and that
//! its speed is compared with, and how samples of all of them are taken in turns ([`interleave`]).

mod copy;
mod form;
pub mod grid;
pub mod interleave;
mod workload;

pub use copy::Baseline;
pub use form::Form;
pub use grid::Point;
pub use workload::{Contender, Workload};
