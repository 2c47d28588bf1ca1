//! The headers of the two file formats, and elements as they lie in files.
//!
//! The fuzz targets include this folder by its path: it uses nothing else of this program.

mod elements;
mod error;
pub(crate) mod npy;
pub(crate) mod safetensors;

pub(crate) use elements::{Places, decode};
pub(crate) use error::FormatError;

use std::fmt;

/// A type of elements in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F16,
    Bf16,
    F32,
    /// Read as [`Kind::F32`].
    F64,
    /// Written alone, as the two below.
    F8E4M3,
    F8E5M2,
    I8,
}

impl Kind {
    /// Bytes of an element.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The type of the elements after [`decode`].
    pub(crate) const fn decoded(self) -> Self {
        match self {
            Self::F64 => Self::F32,
            other => other,
        }
    }
}

/// Where the elements of one tensor lie in a file, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) kind: Kind,
    pub(crate) big_endian: bool,
    /// The first index runs fastest, and this makes a difference.
    pub(crate) fortran: bool,
    pub(crate) shape: Vec<u64>,
    /// The byte at which the first element begins.
    pub(crate) begin: u64,
}

/// A shape as it is written in a message: `2×3×4`.
pub(crate) struct Shape<'a>(pub(crate) &'a [u64]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        if sizes.is_empty() { f.write_str("scalar") } else { f.write_str(&sizes.join("×")) }
    }
}

/// The product of `shape` and `factor`, or the error that it overflows.
pub(crate) fn product(shape: &[u64], factor: u64) -> Result<u64, FormatError> {
    // A zero makes the product 0 whatever the other sizes are, and these must not overflow before it is met.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(factor, |n, size| n.checked_mul(*size))
        .filter(|n| i64::try_from(*n).is_ok())
        .ok_or_else(|| FormatError::TooManyElements(Shape(shape).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_that_overflow_are_errors() {
        assert_eq!(product(&[3, 4], 2).ok(), Some(24));
        assert_eq!(product(&[], 4).ok(), Some(4));
        assert_eq!(product(&[u64::MAX, u64::MAX, 0], 4).ok(), Some(0));
        assert!(product(&[1 << 40, 1 << 40], 1).is_err());
        assert!(product(&[1 << 61], 4).is_err());
    }
}
