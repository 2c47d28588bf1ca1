//! A file that has its final name only when it is whole.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use dyt::{DType, Element, Quant};
use indicatif::ProgressBar;
use tempfile::NamedTempFile;

use super::format::{Kind, npy, safetensors};
use super::source::open_regular;
use super::{Format, FormatError};
use crate::error::CliError;
use crate::interrupt;

/// Bytes that are copied between two looks at Ctrl-C.
const COPY: u64 = 16 << 20;

/// One tensor of a file that is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// Its name in a safetensors file.
    pub(crate) name: &'a str,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [u64],
}

impl<'a> Entry<'a> {
    const fn kind(&self) -> Kind {
        match self.dtype {
            DType::F32 => Kind::F32,
            DType::F16 => Kind::F16,
            DType::Bf16 => Kind::Bf16,
            DType::Quant(Quant::F8E4M3) => Kind::F8E4M3,
            DType::Quant(Quant::F8E5M2) => Kind::F8E5M2,
            DType::Quant(Quant::I8) => Kind::I8,
        }
    }

    const fn record(&self) -> safetensors::Entry<'a> {
        safetensors::Entry { name: self.name, kind: self.kind(), shape: self.shape }
    }
}

/// The header of a file with these tensors; `.npy` has the first of them alone.
fn header(format: Format, tensors: &[Entry<'_>]) -> Result<Vec<u8>, FormatError> {
    match (format, tensors) {
        (_, []) => Err(FormatError::NoTensor),
        (Format::Npy, [first, ..]) => Ok(npy::header(first.kind(), first.shape)),
        (Format::Safetensors, tensors) => {
            safetensors::header(&tensors.iter().map(Entry::record).collect::<Vec<_>>())
        }
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

/// What may have the final name when the file gets it.
#[derive(Debug)]
enum Before {
    /// Nothing.
    Nothing,
    /// Anything: the user said `--force`.
    Anything,
    /// The file of which the other tensors are, as it was then.
    Unchanged(Metadata),
}

/// A file that is being written in the folder of its final name. Dropped before [`Finished::commit`], it is removed.
#[derive(Debug)]
pub(crate) struct Sink {
    file: NamedTempFile,
    /// The final name, through symbolic links.
    target: PathBuf,
    before: Before,
    /// A file, and what of it follows the elements that are written.
    after: Option<(File, Vec<Range<u64>>)>,
}

impl Sink {
    /// Begins a file that will be `path`, in place of whatever has that name.
    pub(crate) fn create(path: &Path, begin: &[u8]) -> Result<Self, CliError> {
        let target = target_of(path);
        let existing = regular(path, &target)?;
        Self::begin(target, Before::Anything, existing.as_ref(), begin)
    }

    /// Begins a file of these tensors that will be `path`. One that is there is replaced only with `force`.
    pub(crate) fn tensors(path: &Path, entries: &[Entry<'_>], force: bool) -> Result<Self, CliError> {
        let malformed = |source| CliError::Malformed { path: path.to_owned(), source };
        let header = header(Format::of(path)?, entries).map_err(malformed)?;
        let target = target_of(path);
        let existing = regular(path, &target)?;
        if existing.is_some() && !force {
            return Err(CliError::Exists { path: path.to_owned() });
        }
        let before = if force { Before::Anything } else { Before::Nothing };
        Self::begin(target, before, existing.as_ref(), &header)
    }

    /// Begins a file with this tensor in place of the one of its name, or beside the others if none has it.
    pub(crate) fn amend(path: &Path, entry: &Entry<'_>, bar: &ProgressBar) -> Result<Self, CliError> {
        let malformed = |source| CliError::Malformed { path: path.to_owned(), source };
        let target = target_of(path);
        if regular(path, &target)?.is_none() {
            return Self::tensors(path, std::slice::from_ref(entry), false);
        }
        let (mut old, metadata) = open_regular(&target)?;
        let present = safetensors::read(&mut io::BufReader::new(&mut old), metadata.len());
        let plan = present.and_then(|header| header.with(&entry.record())).map_err(malformed)?;
        let kept = plan.before.iter().chain(&plan.after).map(|range| range.end - range.start);
        bar.inc_length(kept.sum());
        let before = Before::Unchanged(metadata.clone());
        let mut sink = Self::begin(target, before, Some(&metadata), &plan.header)?;
        sink.copy(&mut old, &plan.before, bar)?;
        sink.after = Some((old, plan.after));
        Ok(sink)
    }

    fn begin(
        target: PathBuf,
        before: Before,
        existing: Option<&Metadata>,
        header: &[u8],
    ) -> Result<Self, CliError> {
        let file = temporary(folder_of(&target)).map_err(CliError::io(&target))?;
        if let Some(metadata) = existing {
            fs::set_permissions(file.path(), metadata.permissions()).map_err(CliError::io(&target))?;
        }
        let mut sink = Self { file, target, before, after: None };
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

    /// Appends parts of another file, by the system where it can.
    fn copy(&mut self, from: &mut File, ranges: &[Range<u64>], bar: &ProgressBar) -> Result<(), CliError> {
        let path = self.target.clone();
        for range in ranges {
            let mut at = from.seek(SeekFrom::Start(range.start)).map_err(CliError::io(&path))?;
            while at < range.end {
                interrupt::check()?;
                let len = COPY.min(range.end - at);
                let copied = io::copy(&mut from.take(len), self.file.as_file_mut());
                if copied.map_err(CliError::io(&path))? != len {
                    return Err(CliError::Changed { path });
                }
                at += len;
                bar.inc(len);
            }
        }
        Ok(())
    }

    /// Appends the tensors that follow the elements.
    pub(crate) fn append_rest(&mut self, bar: &ProgressBar) -> Result<(), CliError> {
        match self.after.take() {
            Some((mut old, ranges)) => self.copy(&mut old, &ranges, bar),
            None => Ok(()),
        }
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
    /// Gives the file its final name, in place of what may have it.
    pub(crate) fn commit(self) -> Result<(), CliError> {
        let Sink { file, target, before, .. } = self.0;
        let persisted = match &before {
            Before::Nothing => file.persist_noclobber(&target),
            Before::Unchanged(then) if !fs::metadata(&target).is_ok_and(|now| unchanged(then, &now)) => {
                return Err(CliError::Changed { path: target });
            }
            Before::Anything | Before::Unchanged(_) => file.persist(&target),
        };
        persisted.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => CliError::Exists { path: target.clone() },
            _ => CliError::Io { path: target.clone(), source: error.error },
        })?;
        // So that the name outlasts a loss of power, too. Not every system opens folders; the file is whole anyway.
        if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Whether nobody has written to the file, or put another in its place, between the two.
fn unchanged(then: &Metadata, now: &Metadata) -> bool {
    let stamp = |metadata: &Metadata| (metadata.len(), metadata.modified().ok());
    stamp(then) == stamp(now)
}

/// What there is of the file `target`, to which `path` leads; an error unless it is a file.
fn regular(path: &Path, target: &Path) -> Result<Option<Metadata>, CliError> {
    // A link to nothing is there, too.
    match fs::metadata(target).or_else(|_| fs::symlink_metadata(target)) {
        Ok(metadata) if !metadata.is_file() => {
            Err(CliError::Malformed { path: path.to_owned(), source: FormatError::NotRegular })
        }
        metadata => Ok(metadata.ok()),
    }
}

#[cfg(unix)]
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    // As any other new file: what the user's mask leaves of it, and not for the user alone.
    let permissions = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".dyt-").suffix(".tmp").permissions(permissions).tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".dyt-").suffix(".tmp").tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Entry<'_> = Entry { name: "new", dtype: DType::F32, shape: &[1] };

    fn begun(sink: Result<Sink, CliError>) -> Result<Finished, CliError> {
        let mut sink = sink?;
        sink.write(&[1.0_f32])?;
        sink.append_rest(&ProgressBar::hidden())?;
        sink.finish()
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_left_as_it_is() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("m.safetensors");
        begun(Sink::amend(&path, &NEW, &ProgressBar::hidden()))?.commit()?;
        let amended = begun(Sink::amend(&path, &Entry { name: "other", ..NEW }, &ProgressBar::hidden()))?;
        fs::write(&path, "of somebody else")?;
        assert!(matches!(amended.commit(), Err(CliError::Changed { .. })));
        assert_eq!(fs::read(&path)?, b"of somebody else");
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_file_that_comes_meanwhile_is_not_overwritten() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("y.safetensors");
        let finished = begun(Sink::tensors(&path, &[NEW], false))?;
        let forced = begun(Sink::tensors(&path, &[NEW], true))?;
        fs::write(&path, "of somebody else")?;
        assert!(matches!(finished.commit(), Err(CliError::Exists { .. })));
        assert_eq!(fs::read(&path)?, b"of somebody else");
        forced.commit()?;
        assert_ne!(fs::read(&path)?, b"of somebody else");
        Ok(())
    }
}
