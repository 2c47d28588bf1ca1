//! What the list of cases does not show of the wgpu backend: a framework's own device, encoder and buffers, low limits,
//! and what goes wrong. Each test runs on every adapter of this machine.
#![cfg(feature = "wgpu")]

mod arranged;
mod failures;
mod framework;
mod limits;
mod loops;
mod repeat;
mod strays;
mod support;
