//! A tensor that is read from a file, from its first element to its last.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use dyt::{DType, Element, half};

use super::{Extent, Format, FormatError, Reference, npy, product, safetensors};
use crate::error::CliError;

/// An open file, at the next element of its tensor.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    path: PathBuf,
    extent: Extent,
}

impl Source {
    /// Opens the file and checks its header against its length.
    pub(crate) fn open(reference: &Reference) -> Result<Self, CliError> {
        let path = &reference.path;
        let format = Format::of(path)?;
        let mut file = File::open(path).map_err(CliError::io(path))?;
        let metadata = file.metadata().map_err(CliError::io(path))?;
        let malformed = |source| CliError::Malformed { path: path.clone(), source };
        if !metadata.is_file() {
            return Err(malformed(FormatError::NotRegular));
        }
        let mut reader = BufReader::new(&mut file);
        let extent = match (format, &reference.name) {
            (Format::Npy, None) => npy::read(&mut reader, metadata.len()),
            (Format::Npy, Some(name)) => Err(FormatError::NpyHasNoNames(name.clone())),
            (Format::Safetensors, name) => safetensors::read(&mut reader, metadata.len(), name.as_deref()),
        }
        .map_err(malformed)?;
        file.seek(SeekFrom::Start(extent.begin)).map_err(CliError::io(path))?;
        Ok(Self { file, path: path.clone(), extent })
    }

    pub(crate) const fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) const fn dtype(&self) -> DType {
        self.extent.dtype
    }

    pub(crate) fn shape(&self) -> &[u64] {
        &self.extent.shape
    }

    /// The next elements. `T` is the type of the tensor: whoever calls has looked at [`Self::dtype`].
    pub(crate) fn read<T: Element>(&mut self, target: &mut [T]) -> Result<(), CliError> {
        debug_assert_eq!(T::DTYPE, self.dtype());
        self.file.read_exact(bytemuck::cast_slice_mut(target)).map_err(CliError::io(&self.path))
    }

    /// The whole tensor as f32, which loses nothing, if it has `expected` elements.
    pub(crate) fn read_all(mut self, expected: usize) -> Result<Vec<f32>, CliError> {
        // The header has been compared with the file, and has no product that overflows.
        let actual = product(self.shape(), 1).unwrap_or(u64::MAX);
        if actual != expected as u64 {
            return Err(CliError::Elements { path: self.path, expected, actual });
        }
        match self.dtype() {
            DType::F32 => self.read_as(expected, |x: f32| x),
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
pub(crate) fn allocate<T: Element>(len: usize) -> Result<Vec<T>, CliError> {
    bytemuck::allocation::try_zeroed_vec(len)
        .map_err(|()| CliError::Dyt(dyt::Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) }))
}
