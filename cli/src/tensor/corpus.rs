//! The corpus of the fuzz targets as a test: whatever the fuzzer once found stays mended.

use std::fs;
use std::io;
use std::path::Path;

use super::readers;

/// Runs `target` on every file of the corpus `name`, which has to stay small.
fn run(name: &str, target: impl Fn(&[u8])) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        // The test prints it where the function panics.
        println!("{}", path.display());
        let content = fs::read(&path)?;
        target(&content);
        (files, bytes) = (files + 1, bytes + content.len());
    }
    assert!((10..50).contains(&files) && bytes < 32 * 1024, "{files} files, {bytes} bytes");
    Ok(())
}

#[test]
fn npy() -> io::Result<()> {
    run("npy", readers::npy)
}

#[test]
fn safetensors() -> io::Result<()> {
    run("safetensors", readers::safetensors)
}
