//! Makes what the library embeds; writes to `OUT_DIR` alone.

#[cfg(feature = "cuda")]
#[path = "build/cuda.rs"]
mod cuda;
#[cfg(feature = "wgpu")]
#[path = "build/wgsl.rs"]
mod wgsl;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Only what is named by the parts below makes this script run again.
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::build()?;
    #[cfg(feature = "wgpu")]
    wgsl::build()?;
    Ok(())
}
