//! The command `dyt`, as a user runs it.

mod backward;
mod bench;
mod conversions;
mod devices;
mod forward;
mod outputs;
mod quantised;
mod refusals;
mod streaming;
mod support;
