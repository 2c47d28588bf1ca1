//! Composes every kernel in WGSL and validates it, so that a mistake in a shader fails the build and not the first call.

use std::io;

use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

#[path = "../shaders/compose.rs"]
mod compose;

use compose::Kernel;

pub(crate) fn build() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build/wgsl.rs");
    println!("cargo::rerun-if-changed=shaders");
    let mut parser = wgsl::Frontend::new();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
    for kernel in Kernel::all() {
        let source = kernel.source();
        let module = parser
            .parse(&source)
            .map_err(|error| mistake(kernel, error.location(&source), &error.emit_to_string(&source)))?;
        validator
            .validate(&module)
            .map_err(|error| mistake(kernel, error.location(&source), &error.emit_to_string(&source)))?;
    }
    Ok(())
}

/// The message for a mistake, with the place in the piece that it comes from.
fn mistake(kernel: Kernel, location: Option<naga::SourceLocation>, message: &str) -> io::Error {
    let place = location.map_or_else(String::new, |location| {
        let (file, line) = kernel.origin(location.line_number as usize);
        format!("shaders/{file}:{line}: ")
    });
    io::Error::other(format!("{place}{kernel:?}: {message}"))
}
