//! The corpus of the fuzz target `capi` as a test: whatever the fuzzer once found stays mended.
// The modules of the library stand here as they are, and what only C calls is not used.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs;
use std::io;
use std::path::Path;

// The modules of the library, which is none for Rust. They name one another by `crate`.
#[path = "../src/abi.rs"]
mod abi;
#[path = "../src/calls.rs"]
mod calls;
#[path = "../src/copy.rs"]
mod copy;
#[path = "../src/devices.rs"]
mod devices;
#[path = "../src/memory.rs"]
mod memory;
#[path = "../src/problem.rs"]
mod problem;
#[path = "../src/status.rs"]
mod status;
#[path = "../src/stream.rs"]
mod stream;
#[path = "../../fuzz/src/structs.rs"]
mod structs;

#[test]
fn capi() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/capi");
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        // The test prints it where the function panics.
        println!("{}", path.display());
        let content = fs::read(&path)?;
        structs::structs(&content);
        (files, bytes) = (files + 1, bytes + content.len());
    }
    assert!((10..50).contains(&files) && bytes < 32 * 1024, "{files} files, {bytes} bytes");
    Ok(())
}
