//! Tensors in files: `.npy` and `.safetensors`, read and written in blocks.
//!
//! Nothing of a header is believed before it has been compared with the length of the file, so that no header can
//! ask for more memory than the file has bytes.

mod format;
mod reference;
mod sink;
mod source;

#[cfg(test)]
mod corpus;
/// What the fuzz targets do with a file.
#[cfg(test)]
#[path = "../../../fuzz/src/readers.rs"]
mod readers;

pub(crate) use format::safetensors::METADATA;
pub(crate) use format::{FormatError, Shape, product};
pub(crate) use reference::{Format, Reference};
pub(crate) use sink::{Entry, Finished, Sink, target_of};
pub(crate) use source::{Source, allocate};

#[cfg(target_endian = "big")]
compile_error!("elements are read and written as they lie in the file, which is little-endian");
