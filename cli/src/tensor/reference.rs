//! Files and tensors in them as arguments name them.

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
    fn formats_go_by_extension() {
        assert!(matches!(Format::of(Path::new("x.NPY")), Ok(Format::Npy)));
        assert!(matches!(Format::of(Path::new("x.safetensors")), Ok(Format::Safetensors)));
        assert!(matches!(Format::of(Path::new("x.npz")), Err(CliError::Usage(_))));
        assert!(matches!(Format::of(Path::new("npy")), Err(CliError::Usage(_))));
    }
}
