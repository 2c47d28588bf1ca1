#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dyt_fuzz::safetensors(bytes));
