//! Everything that ends the command before its work is done.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dyt::DType;

use crate::tensor::FormatError;

/// Why the command failed; its message is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments are not known or do not fit together.
    #[error("{0} (try `dyt help`)")]
    Usage(String),
    /// The library refused the device or the problem.
    #[error(transparent)]
    Dyt(#[from] dyt::Error),
    /// A file could not be opened, read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what its name says, or holds what cannot be read.
    #[error("{}: {source}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// There is a file of the output's name, and nothing says that it may go.
    #[error("{}: is there already; --force overwrites it", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file to which a tensor was to be added is another than it was at the beginning.
    #[error("{}: was changed by another program meanwhile; it is left as it is", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A parameter does not have one element for each column.
    #[error("{}: {actual} elements, expected {expected}", .path.display())]
    Elements {
        /// The file.
        path: PathBuf,
        /// As many as there are columns; 1 for alpha and shift.
        expected: usize,
        /// The elements of the tensor.
        actual: u64,
    },
    /// dy, the residual or dsum is not of the type and the shape of x.
    #[error("{}: {} {}, and x is {} {}", .path.display(), .other.0, .other.1, .x.0, .x.1)]
    Unlike {
        /// Its file.
        path: PathBuf,
        /// Its type and shape.
        other: (DType, String),
        /// Type and shape of x.
        x: (DType, String),
    },
    /// The shape of x has no rows and columns.
    #[error("{}: x has the shape {shape}, and needs {needed}", .path.display())]
    Rank {
        /// The file of x.
        path: PathBuf,
        /// Its shape.
        shape: String,
        /// What it should have.
        needed: &'static str,
    },
    /// Not even a single row fits in the memory that is allowed.
    #[error("one row at a time takes {needed} bytes, and --memory allows {allowed}")]
    Memory {
        /// Bytes for the parameters, their gradients and one row.
        needed: u64,
        /// Bytes of `--memory`.
        allowed: u64,
    },
    /// A tensor in Fortran order does not fit in the memory that is allowed, with one row beside it.
    #[error("{}: in Fortran order; converting it takes {needed} bytes of memory, and --memory allows {allowed}", .path.display())]
    FortranMemory {
        /// The file.
        path: PathBuf,
        /// Bytes for all tensors in Fortran order, the parameters, their gradients and one row.
        needed: u64,
        /// Bytes of `--memory`.
        allowed: u64,
    },
    /// There is no benchmark.
    #[error(transparent)]
    Bench(#[from] crate::bench::BenchError),
    /// Results are too far from the reference.
    #[error("{failed} of {total} conformance cases failed")]
    Conformance {
        /// How many failed.
        failed: usize,
        /// How many ran, on all devices.
        total: usize,
    },
    /// Ctrl-C.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// The standard output took no more, for another reason than a closed pipe.
    #[error("standard output: {0}")]
    Stdout(io::Error),
}

impl CliError {
    /// For `map_err` of an operation on the file at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }

    /// 2 for bad usage, 1 for failure.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_)
            | Self::Dyt(
                dyt::Error::UnknownBackend { .. }
                | dyt::Error::UnknownLevel { .. }
                | dyt::Error::InvalidEps { .. }
                | dyt::Error::InvalidGammaOffset { .. }
                | dyt::Error::UnbiasedNotLayerNorm { .. },
            ) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}
