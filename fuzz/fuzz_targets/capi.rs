#![no_main]

// The modules of the C ABI, which is a library for C and none for Rust. They name one another by `crate`.
#[path = "../../capi/src/abi.rs"]
mod abi;
#[path = "../../capi/src/calls.rs"]
mod calls;
#[path = "../../capi/src/copy.rs"]
mod copy;
#[path = "../../capi/src/devices.rs"]
mod devices;
#[path = "../../capi/src/memory.rs"]
mod memory;
#[path = "../../capi/src/problem.rs"]
mod problem;
#[path = "../../capi/src/status.rs"]
mod status;
#[path = "../../capi/src/stream.rs"]
mod stream;
#[path = "../src/structs.rs"]
mod structs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| structs::structs(bytes));
