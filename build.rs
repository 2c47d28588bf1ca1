//! Makes what the library embeds; writes to `OUT_DIR` alone.

#[cfg(feature = "cuda")]
#[path = "build/cuda.rs"]
mod cuda;

fn main() {
    if let Err(error) = build() {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> std::io::Result<()> {
    // Only what is named by the parts below makes this script run again.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(has_cuda, has_wgpu)");
    // WebAssembly has no driver that could be loaded.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture == "wasm32") {
        return Ok(());
    }
    #[cfg(feature = "cuda")]
    {
        cuda::build()?;
        println!("cargo::rustc-cfg=has_cuda");
    }
    // WGSL needs no step here: `shaders/compose.rs` puts kernels together at run time.
    #[cfg(feature = "wgpu")]
    println!("cargo::rustc-cfg=has_wgpu");
    Ok(())
}
