//! Buffers of exactly the bytes that an argument has.

use dyt::{View, ViewMut};

/// A copy of an argument in memory that ends where the argument ends, aligned to 16 bytes exactly where the argument is.
#[derive(Clone, Debug)]
pub struct Exact {
    bytes: Vec<u8>,
    /// Bytes in front, for the alignment.
    lead: usize,
}

impl Exact {
    /// Bytes of the unit of alignment.
    const UNIT: usize = 16;

    fn new(start: *const u8, len: usize) -> Self {
        let lead = start.addr() % Self::UNIT;
        let mut bytes = Vec::with_capacity(lead + len);
        bytes.resize(lead, 0);
        // SAFETY: the caller's view is valid for reads of so many bytes.
        bytes.extend_from_slice(unsafe { core::slice::from_raw_parts(start, len) });
        let aligned = bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(Self::UNIT);
        assert!(aligned, "malloc aligns to 16 bytes");
        Self { bytes, lead }
    }

    /// A copy of what is read.
    #[must_use]
    pub fn read(view: &View<'_>) -> Self {
        Self::new(view.as_ptr(), view.len() * view.dtype().size())
    }

    /// A copy of what is written.
    #[must_use]
    pub fn written(view: &mut ViewMut<'_>) -> Self {
        Self::new(view.as_mut_ptr(), view.len() * view.dtype().size())
    }

    /// The address of the copy.
    pub fn address(&mut self) -> u64 {
        self.bytes[self.lead..].as_mut_ptr().expose_provenance() as u64
    }

    /// The bytes of the copy.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.lead..]
    }

    /// Copies back.
    pub fn write_back(&self, view: &mut ViewMut<'_>) {
        let bytes = self.bytes();
        assert_eq!(bytes.len(), view.len() * view.dtype().size());
        // SAFETY: the view is valid for writes of so many bytes, and apart from the copy.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), view.as_mut_ptr(), bytes.len()) };
    }
}
