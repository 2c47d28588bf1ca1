//! The command `dyt`, as a user runs it.

mod backward;
mod bench;
mod devices;
mod forward;
mod refusals;
mod streaming;
mod support;
