//! What the fuzz targets call.

// The readers of the command, which is a program and no library.
#[allow(dead_code)]
#[path = "../../cli/src/tensor/format/mod.rs"]
mod format;
mod readers;

/// A `.npy` file.
pub fn npy(bytes: &[u8]) {
    readers::npy(bytes);
}

/// A `.safetensors` file.
pub fn safetensors(bytes: &[u8]) {
    readers::safetensors(bytes);
}
