//! Everything that ends the command before its work is done.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why the command failed; its message is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments do not fit together; the exit code is 2, and 1 for everything else.
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
            Self::Usage(_) => ExitCode::from(2),
            Self::Dyt(_) | Self::Io { .. } | Self::Stdout(_) => ExitCode::FAILURE,
        }
    }
}
