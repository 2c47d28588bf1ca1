//! The code of every kernel, as PTX: made beforehand by NVRTC 12.0 and, where the crate was built beside an nvcc, by that
//! one too.
//!
//! The driver compiles PTX for its GPU when it is loaded. PTX of an architecture runs on every later one, so that the
//! newest that is not newer than the GPU is the one to load.

use core::ffi::CStr;
use std::ffi::CString;
use std::io::Read;
use std::sync::OnceLock;

use flate2::read::DeflateDecoder;

use super::plan::Entry;

/// One file of `kernels/`, compiled for one architecture. The text is embedded deflated, and inflated when it is first
/// asked for.
pub struct Ptx {
    file: &'static str,
    architecture: u32,
    prebuilt: bool,
    deflated: &'static [u8],
    text: OnceLock<CString>,
}

impl Ptx {
    const fn new(file: &'static str, architecture: u32, prebuilt: bool, deflated: &'static [u8]) -> Self {
        Self { file, architecture, prebuilt, deflated, text: OnceLock::new() }
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
    /// nvcc that was there when the crate was built, which may be too new for a driver.
    #[must_use]
    pub const fn is_prebuilt(&self) -> bool {
        self.prebuilt
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
            // `build.rs` made these bytes, with a zero at the end: they cannot fail.
            let length = DeflateDecoder::new(self.deflated).read_to_end(&mut text);
            length.ok().and_then(|_| CString::from_vec_with_nul(text).ok()).unwrap_or_default()
        })
    }
}

impl core::fmt::Debug for Ptx {
    /// Without the text.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let made = if self.prebuilt { "prebuilt" } else { "by nvcc" };
        write!(f, "{} for sm_{}, {made}", self.file, self.architecture)
    }
}

// What `build.rs` found, as `ALL`: by nvcc first, then the prebuilt; newest architecture first.
include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// All that is embedded, in the order of preference.
#[must_use]
pub fn all() -> &'static [Ptx] {
    &ALL
}

/// The best prebuilt PTX of a kernel for a compute capability such as 90, or `None` below 75.
#[must_use]
pub fn of(entry: Entry, capability: u32) -> Option<&'static Ptx> {
    all().iter().find(|ptx| ptx.prebuilt && ptx.file == entry.file() && ptx.architecture <= capability)
}
