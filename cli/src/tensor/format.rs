//! What the two file formats share: names, errors, sizes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::CliError;

/// A file format, known by the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Npy,
    Safetensors,
}

impl Format {
    /// The format that the extension of `path` says.
    pub(crate) fn of(path: &Path) -> Result<Self, CliError> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            _ => {
                Err(CliError::Usage(format!("{}: the name must end in .npy or .safetensors", path.display())))
            }
        }
    }
}

/// `FILE` or `FILE.safetensors:NAME`, as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) path: PathBuf,
    /// The tensor's name in a safetensors file.
    pub(crate) name: Option<String>,
}

impl FromStr for Reference {
    type Err = Infallible;

    /// A colon separates only where it follows the extension: paths may have colons of their own.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        const END: &str = ".safetensors";
        let colon = text.to_ascii_lowercase().find(".safetensors:").map(|at| at + END.len());
        Ok(match colon {
            Some(at) => Self { path: text[..at].into(), name: Some(text[at + 1..].to_owned()) },
            None => Self { path: text.into(), name: None },
        })
    }
}

/// Why a file is no tensor file, or none that this program reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("not a regular file")]
    NotRegular,
    #[error("the file has {actual} bytes and is cut off before the end of its header")]
    CutHeader { actual: u64 },
    #[error("the header has {header} bytes; at most {limit} are read")]
    LongHeader { header: u64, limit: u64 },
    #[error("not a .npy file: it does not begin with \\x93NUMPY")]
    NoNpyMagic,
    #[error(".npy version {0}; 1, 2 and 3 are read")]
    NpyVersion(u8),
    #[error("the .npy header is malformed at byte {at}: expected {expected}")]
    NpyHeader { at: usize, expected: &'static str },
    #[error("the .npy header lacks {0:?}, or has it twice")]
    NpyKey(&'static str),
    #[error("the array is in Fortran order; store numpy.ascontiguousarray(x)")]
    FortranOrder,
    #[error("dtype {0} is big-endian; store it as little-endian")]
    BigEndian(String),
    #[error("dtype {0}; f32, f16 and bf16 are read: convert it first")]
    UnsupportedDType(String),
    #[error("the safetensors header is malformed: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "the tensors of the safetensors file do not fill it exactly: {name:?} is at {begin}..{end} of {length}"
    )]
    Offsets { name: String, begin: u64, end: u64, length: u64 },
    #[error("the file has {actual} bytes of elements, and its header says {expected}")]
    DataLength { expected: u64, actual: u64 },
    #[error("the shape {0} has more elements than can be counted")]
    TooManyElements(String),
    #[error("the file has no tensor")]
    NoTensor,
    #[error("there is no tensor {name:?}; there are {present}")]
    NoSuchTensor { name: String, present: String },
    #[error("there are several tensors, name one: {0}")]
    SeveralTensors(String),
    #[error("an .npy file has one array without a name, and {0:?} was asked for")]
    NpyHasNoNames(String),
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
        .ok_or_else(|| FormatError::TooManyElements(super::Shape(shape).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> (String, Option<String>) {
        let Ok(reference) = Reference::from_str(text);
        (reference.path.display().to_string(), reference.name)
    }

    #[test]
    fn a_name_follows_the_extension() {
        assert_eq!(reference("a/b.npy"), ("a/b.npy".to_owned(), None));
        assert_eq!(reference("c:/x.safetensors"), ("c:/x.safetensors".to_owned(), None));
        let named = ("c:/x.SafeTensors".to_owned(), Some("layer.0:w".to_owned()));
        assert_eq!(reference("c:/x.SafeTensors:layer.0:w"), named);
    }

    #[test]
    fn products_that_overflow_are_errors() {
        assert_eq!(product(&[3, 4], 2).ok(), Some(24));
        assert_eq!(product(&[], 4).ok(), Some(4));
        assert_eq!(product(&[u64::MAX, u64::MAX, 0], 4).ok(), Some(0));
        assert!(product(&[1 << 40, 1 << 40], 1).is_err());
        assert!(product(&[1 << 61], 4).is_err());
    }

    #[test]
    fn formats_go_by_extension() {
        assert!(matches!(Format::of(Path::new("x.NPY")), Ok(Format::Npy)));
        assert!(matches!(Format::of(Path::new("x.safetensors")), Ok(Format::Safetensors)));
        assert!(matches!(Format::of(Path::new("x.npz")), Err(CliError::Usage(_))));
        assert!(matches!(Format::of(Path::new("npy")), Err(CliError::Usage(_))));
    }
}
