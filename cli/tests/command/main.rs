//! The command `dyt`, as a user runs it.

mod backward;
mod devices;
mod forward;
mod refusals;
mod streaming;
mod support;
