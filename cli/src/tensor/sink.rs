//! A file that has its final name only when it is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use dyt::{DType, Element};
use tempfile::NamedTempFile;

use super::{Format, FormatError, npy, safetensors};
use crate::error::CliError;

/// One tensor of a file that is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// Its name in a safetensors file.
    pub(crate) name: &'a str,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [u64],
}

/// The header of a file with these tensors; `.npy` has the first of them alone.
pub(crate) fn header(format: Format, tensors: &[Entry<'_>]) -> Result<Vec<u8>, FormatError> {
    match (format, tensors) {
        (_, []) => Err(FormatError::NoTensor),
        (Format::Npy, [first, ..]) => Ok(npy::header(first.dtype, first.shape)),
        (Format::Safetensors, tensors) => safetensors::header(tensors),
    }
}

/// The file that a path leads to, through symbolic links and `..`, whether or not it is there already.
pub(crate) fn target_of(path: &Path) -> PathBuf {
    let in_folder = || Some(fs::canonicalize(folder_of(path)).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file that is being written in the folder of its final name. Dropped before [`Sink::commit`], it is removed.
#[derive(Debug)]
pub(crate) struct Sink {
    file: NamedTempFile,
    /// The final name, through symbolic links.
    target: PathBuf,
}

impl Sink {
    /// Begins a file that will be `path`.
    pub(crate) fn create(path: &Path, header: &[u8]) -> Result<Self, CliError> {
        let target = target_of(path);
        let existing = fs::metadata(&target).ok();
        if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            let source = FormatError::NotRegular;
            return Err(CliError::Malformed { path: path.to_owned(), source });
        }
        let file = temporary(folder_of(&target)).map_err(CliError::io(path))?;
        if let Some(metadata) = existing {
            fs::set_permissions(file.path(), metadata.permissions()).map_err(CliError::io(path))?;
        }
        let mut sink = Self { file, target };
        sink.write_bytes(header)?;
        Ok(sink)
    }

    /// Appends elements.
    pub(crate) fn write<T: Element>(&mut self, elements: &[T]) -> Result<(), CliError> {
        self.write_bytes(bytemuck::cast_slice(elements))
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.file.write_all(bytes).map_err(CliError::io(&self.target))
    }

    /// Waits until the bytes are on the disk; what remains is the name.
    pub(crate) fn finish(self) -> Result<Finished, CliError> {
        self.file.as_file().sync_all().map_err(CliError::io(&self.target))?;
        Ok(Finished(self))
    }
}

/// A file that is whole, and lacks its name.
#[derive(Debug)]
pub(crate) struct Finished(Sink);

impl Finished {
    /// Gives the file its final name, in place of whatever had it.
    pub(crate) fn commit(self) -> Result<(), CliError> {
        let Sink { file, target } = self.0;
        file.persist(&target).map_err(|error| CliError::Io { path: target.clone(), source: error.error })?;
        // So that the name outlasts a loss of power, too. Not every system opens folders; the file is whole anyway.
        if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

#[cfg(unix)]
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    // As any other new file: what the user's mask leaves of it, and not for the user alone.
    let permissions = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".dyt-").suffix(".tmp").permissions(permissions).tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".dyt-").suffix(".tmp").tempfile_in(folder)
}
