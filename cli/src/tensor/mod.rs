//! Tensors in files: `.npy` and `.safetensors`, read and written in blocks.
//!
//! Nothing of a header is believed before it has been compared with the length of the file, so that no header can
//! ask for more memory than the file has bytes.

mod format;
mod npy;
mod safetensors;
mod sink;
mod source;

pub(crate) use format::{Format, FormatError, Reference, product};
pub(crate) use sink::{Entry, Finished, Sink, header, target_of};
pub(crate) use source::{Source, allocate};

#[cfg(target_endian = "big")]
compile_error!("elements are read and written as they lie in the file, which is little-endian");

use std::fmt;

use dyt::DType;

/// Where the elements of one tensor lie in a file of which the header is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extent {
    dtype: DType,
    shape: Vec<u64>,
    /// The byte at which the first element begins.
    begin: u64,
}

/// A shape as it is written in a message: `2×3×4`.
pub(crate) struct Shape<'a>(pub(crate) &'a [u64]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        if sizes.is_empty() { f.write_str("scalar") } else { f.write_str(&sizes.join("×")) }
    }
}
