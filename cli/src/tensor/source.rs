//! A tensor that is read from a file, from its first element to its last.

use std::fs::{self, File, Metadata};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use dyt::{DType, Element, half};

use super::format::{Extent, Kind, Places, decode, npy, safetensors};
use super::{Format, FormatError, Reference, product};
use crate::error::CliError;
use crate::interrupt;

/// Stored bytes that are converted at once: whole elements of every type.
const STAGE: usize = 64 * 1024;

/// An open file, at the next element of its tensor.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    path: PathBuf,
    extent: Extent,
    /// Where elements are converted, if they are.
    stage: Vec<u8>,
    /// A tensor in Fortran order once it has been read, in C order, and the next byte of it.
    whole: Option<(Vec<u8>, usize)>,
}

/// The file at `path`. What is no file is not opened: `open` of a named pipe waits for somebody who writes.
pub(super) fn open_regular(path: &Path) -> Result<(File, Metadata), CliError> {
    let regular = |metadata: &Metadata| {
        let source = FormatError::NotRegular;
        if metadata.is_file() { Ok(()) } else { Err(CliError::Malformed { path: path.to_owned(), source }) }
    };
    regular(&fs::metadata(path).map_err(CliError::io(path))?)?;
    let file = File::open(path).map_err(CliError::io(path))?;
    let metadata = file.metadata().map_err(CliError::io(path))?;
    regular(&metadata)?;
    Ok((file, metadata))
}

impl Source {
    /// Opens the file and checks its header against its length.
    pub(crate) fn open(reference: &Reference) -> Result<Self, CliError> {
        let path = &reference.path;
        let format = Format::of(path)?;
        let (mut file, metadata) = open_regular(path)?;
        let mut reader = BufReader::new(&mut file);
        let extent = match (format, &reference.name) {
            (Format::Npy, None) => npy::read(&mut reader, metadata.len()),
            (Format::Npy, Some(name)) => Err(FormatError::NpyHasNoNames(name.clone())),
            (Format::Safetensors, name) => safetensors::read(&mut reader, metadata.len())
                .and_then(|header| header.extent(name.as_deref())),
        }
        .map_err(|source| CliError::Malformed { path: path.clone(), source })?;
        file.seek(SeekFrom::Start(extent.begin)).map_err(CliError::io(path))?;
        Ok(Self { file, path: path.clone(), extent, stage: Vec::new(), whole: None })
    }

    pub(crate) const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The type of the elements as they are read: f32 for f64.
    pub(crate) const fn dtype(&self) -> DType {
        match self.extent.kind {
            Kind::F16 => DType::F16,
            Kind::Bf16 => DType::Bf16,
            // Of one byte nothing is read.
            Kind::F32 | Kind::F64 | Kind::F8E4M3 | Kind::F8E5M2 | Kind::I8 => DType::F32,
        }
    }

    pub(crate) fn shape(&self) -> &[u64] {
        &self.extent.shape
    }

    /// What is converted, as a line for the user.
    pub(crate) fn note(&self) -> Option<String> {
        let Extent { kind, big_endian, fortran, .. } = self.extent;
        let conversions = [
            (fortran, "Fortran order is converted"),
            (big_endian, "big-endian elements are converted"),
            (kind == Kind::F64, "f64 is rounded to f32, beyond its range to infinity"),
        ];
        let done = conversions.iter().filter_map(|(done, text)| done.then_some(*text)).collect::<Vec<_>>();
        (!done.is_empty()).then(|| format!("{}: {}", self.path.display(), done.join(", ")))
    }

    /// Bytes that the tensor keeps in memory while it is read. In Fortran order any row is all over the file.
    pub(crate) fn held(&self) -> u64 {
        if self.extent.fortran { self.decoded_len() } else { 0 }
    }

    /// Bytes of the tensor as it is read. The header has been compared with the file: no product overflows.
    fn decoded_len(&self) -> u64 {
        product(self.shape(), self.dtype().size() as u64).unwrap_or(u64::MAX)
    }

    /// The next elements. `T` is the type of the tensor: whoever calls has looked at [`Self::dtype`].
    pub(crate) fn read<T: Element>(&mut self, target: &mut [T]) -> Result<(), CliError> {
        debug_assert_eq!(T::DTYPE, self.dtype());
        let target: &mut [u8] = bytemuck::cast_slice_mut(target);
        if !self.extent.fortran {
            return self.read_bytes(target);
        }
        let (whole, at) = match self.whole.take() {
            Some(whole) => whole,
            None => (self.reorder()?, 0),
        };
        let end = at + target.len();
        target.copy_from_slice(&whole[at..end]);
        self.whole = Some((whole, end));
        Ok(())
    }

    /// The next bytes, in the order of the file.
    fn read_bytes(&mut self, target: &mut [u8]) -> Result<(), CliError> {
        let Extent { kind, big_endian, .. } = self.extent;
        if !big_endian && kind.decoded() == kind {
            return self.file.read_exact(target).map_err(CliError::io(&self.path));
        }
        self.stage.resize(STAGE, 0);
        for part in target.chunks_mut(STAGE / kind.size() * kind.decoded().size()) {
            let stored = &mut self.stage[..part.len() / kind.decoded().size() * kind.size()];
            self.file.read_exact(stored).map_err(CliError::io(&self.path))?;
            let len = decode(kind, big_endian, stored);
            part.copy_from_slice(&stored[..len]);
        }
        Ok(())
    }

    /// The whole tensor, from Fortran order to C order.
    fn reorder(&mut self) -> Result<Vec<u8>, CliError> {
        let size = self.dtype().size();
        let len = usize::try_from(self.decoded_len()).unwrap_or(usize::MAX);
        let mut whole = allocate::<u8>(len)?;
        let mut places = Places::of(self.shape());
        let mut part = vec![0; STAGE.min(len)];
        let mut left = len;
        while left > 0 {
            interrupt::check()?;
            let part = &mut part[..STAGE.min(left)];
            self.read_bytes(part)?;
            for (element, place) in part.chunks_exact(size).zip(&mut places) {
                whole[place * size..][..size].copy_from_slice(element);
            }
            left -= part.len();
        }
        Ok(whole)
    }

    /// The whole tensor as f32, which loses nothing but of f64, if it has `expected` elements.
    pub(crate) fn read_all(mut self, expected: usize) -> Result<Vec<f32>, CliError> {
        let actual = product(self.shape(), 1).unwrap_or(u64::MAX);
        if actual != expected as u64 {
            return Err(CliError::Elements { path: self.path, expected, actual });
        }
        match self.dtype() {
            DType::F32 | DType::Quant(_) => self.read_as(expected, |x: f32| x),
            DType::F16 => self.read_as(expected, half::f16::to_f32),
            DType::Bf16 => self.read_as(expected, half::bf16::to_f32),
        }
    }

    fn read_as<T: Element>(&mut self, len: usize, widen: impl Fn(T) -> f32) -> Result<Vec<f32>, CliError> {
        let mut values = allocate::<T>(len)?;
        self.read(&mut values)?;
        Ok(values.into_iter().map(widen).collect())
    }
}

/// Zeros, or an error instead of an abort where there is not so much memory.
pub(crate) fn allocate<T: bytemuck::Zeroable>(len: usize) -> Result<Vec<T>, CliError> {
    bytemuck::allocation::try_zeroed_vec(len)
        .map_err(|()| CliError::Dyt(dyt::Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) }))
}
