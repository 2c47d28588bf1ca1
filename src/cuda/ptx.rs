//! The code of every kernel, as PTX: made beforehand by NVRTC 12.0 and, where the crate was built beside an nvcc, by that
//! one too.
//!
//! The driver compiles PTX for its GPU when it is loaded. PTX of an architecture runs on every later one, so that the
//! newest that is not newer than the GPU is the one to load.

use core::ffi::CStr;

use super::plan::Entry;

/// One file of `kernels/`, compiled for one architecture.
#[derive(Clone, Copy)]
pub struct Ptx {
    file: &'static str,
    architecture: u32,
    prebuilt: bool,
    /// Ends in a zero, as the driver wants it.
    text: &'static str,
}

impl Ptx {
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
    pub fn text(&self) -> &'static str {
        self.text.trim_end_matches('\0')
    }
    /// The text, as the driver takes it.
    #[must_use]
    pub fn c_str(&self) -> &'static CStr {
        CStr::from_bytes_until_nul(self.text.as_bytes()).unwrap_or_default()
    }
}

impl core::fmt::Debug for Ptx {
    /// Without the text.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let made = if self.prebuilt { "prebuilt" } else { "by nvcc" };
        write!(f, "{} for sm_{}, {made}", self.file, self.architecture)
    }
}

/// What `build.rs` found: by nvcc first, then the prebuilt; newest architecture first.
static ALL: &[Ptx] = &include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// All that is embedded, in the order of preference.
#[must_use]
pub fn all() -> &'static [Ptx] {
    ALL
}

/// The best prebuilt PTX of a kernel for a compute capability such as 90, or `None` below 75.
#[must_use]
pub fn of(entry: Entry, capability: u32) -> Option<&'static Ptx> {
    ALL.iter().find(|ptx| ptx.prebuilt && ptx.file == entry.file() && ptx.architecture <= capability)
}
