//! The code of every kernel as PTX: made beforehand by NVRTC 12.0, and by the nvcc that `DYT_NVCC` named when the crate
//! was built, if it named one.
//!
//! The driver compiles PTX for its GPU when it is loaded. PTX of an architecture runs on every later one. For each file
//! of `kernels/` the newest PTX that is not newer than the GPU is the one to load; a file may have more architectures than
//! another.

use core::ffi::CStr;
use std::ffi::CString;
use std::io::Read;
use std::sync::OnceLock;

use flate2::read::GzDecoder;

use super::plan::Entry;

/// What is embedded.
enum Stored {
    /// Made beforehand.
    Gzip(&'static [u8]),
    /// By nvcc. Built without an nvcc the crate has none.
    #[allow(dead_code, reason = "only where `DYT_NVCC` is set")]
    Text(&'static [u8]),
}

/// One file of `kernels/`, compiled for one architecture. What was made beforehand is embedded compressed, and inflated
/// when it is first asked for.
pub struct Ptx {
    file: &'static str,
    architecture: u32,
    stored: Stored,
    text: OnceLock<CString>,
}

impl Ptx {
    const fn new(file: &'static str, architecture: u32, stored: Stored) -> Self {
        Self { file, architecture, stored, text: OnceLock::new() }
    }
    /// The file of `kernels/`, without the extension, as [`Entry::file`] names it.
    #[must_use]
    pub const fn file(&self) -> &'static str {
        self.file
    }
    /// The architecture: 75 for compute capability 7.5.
    #[must_use]
    pub const fn architecture(&self) -> u32 {
        self.architecture
    }
    /// Whether it was made beforehand: of PTX ISA 8.0, which drivers from 525 on take. If not, it is of the ISA of the
    /// nvcc that was named when the crate was built, which may be too new for a driver.
    #[must_use]
    pub const fn is_prebuilt(&self) -> bool {
        matches!(self.stored, Stored::Gzip(_))
    }
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.c_str().to_str().unwrap_or_default()
    }
    /// The text, as the driver takes it.
    #[must_use]
    pub fn c_str(&self) -> &CStr {
        self.text.get_or_init(|| {
            let mut text = Vec::new();
            // The tests inflate every file that is embedded, so that this does not fail.
            let read = match self.stored {
                Stored::Gzip(bytes) => GzDecoder::new(bytes).read_to_end(&mut text),
                Stored::Text(mut bytes) => bytes.read_to_end(&mut text),
            };
            read.ok().and_then(|_| CString::new(text).ok()).unwrap_or_default()
        })
    }
}

impl core::fmt::Debug for Ptx {
    /// Without the text.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let made = if self.is_prebuilt() { "prebuilt" } else { "by nvcc" };
        write!(f, "{} for sm_{}, {made}", self.file, self.architecture)
    }
}

// What `build.rs` found, as `ALL`: by nvcc first, then the prebuilt; for each file the newest architecture first.
include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// All that is embedded, in the order of preference.
#[must_use]
pub fn all() -> &'static [Ptx] {
    &ALL
}

/// What may be loaded of a file on a GPU of a compute capability such as 90, in the order of preference.
pub(super) fn candidates(file: &str, capability: u32) -> impl Iterator<Item = &'static Ptx> {
    all().iter().filter(move |ptx| ptx.file == file && ptx.architecture <= capability)
}

/// The best prebuilt PTX of a kernel for a compute capability such as 90, or `None` below 75.
#[must_use]
pub fn of(entry: Entry, capability: u32) -> Option<&'static Ptx> {
    candidates(entry.file(), capability).find(|ptx| ptx.is_prebuilt())
}
