//! wgpu's errors as values: error scopes around what may fail, and a record of what comes later.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ::wgpu::{Device, ErrorFilter};

use crate::{Backend, Error, Result};

/// Runs `work` and returns the first error that wgpu reports for it on this thread. `bytes` is what it allocates.
pub(super) fn scoped<T>(device: &Device, bytes: u64, work: impl FnOnce() -> T) -> Result<T> {
    // Scopes are left in the reverse order, also while a panic passes through: hence three variables and no array.
    let internal = device.push_error_scope(ErrorFilter::Internal);
    let validation = device.push_error_scope(ErrorFilter::Validation);
    let memory = device.push_error_scope(ErrorFilter::OutOfMemory);
    let value = work();
    let first = pollster::block_on(memory.pop());
    let second = pollster::block_on(validation.pop());
    let third = pollster::block_on(internal.pop());
    match first.or(second).or(third) {
        Some(error) => Err(convert(&error, bytes)),
        None => Ok(value),
    }
}

/// wgpu's error as this crate's.
fn convert(error: &::wgpu::Error, bytes: u64) -> Error {
    match error {
        ::wgpu::Error::OutOfMemory { .. } => {
            Error::OutOfMemory { bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
        }
        ::wgpu::Error::Validation { description, .. } | ::wgpu::Error::Internal { description, .. } => {
            Error::Driver { backend: Backend::Wgpu, message: description.trim().to_owned() }
        }
    }
}

pub(super) fn lost(reason: impl Into<String>) -> Error {
    Error::DeviceLost { backend: Backend::Wgpu, reason: reason.into() }
}

/// What a device of ours has reported outside of any scope: callbacks write it down, and the next call returns it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lost: OnceLock<String>,
    uncaptured: Mutex<Option<Error>>,
}

impl Reports {
    /// Replaces the device's callbacks, which by default panic.
    pub(super) fn listen(&self, device: &Device) {
        let reports = self.clone();
        device.set_device_lost_callback(move |reason, message| {
            let text = if message.is_empty() { format!("{reason:?}") } else { message };
            // The first loss is the cause of any later one.
            let _ = reports.0.lost.set(text);
        });
        let reports = self.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            let mut slot = reports.0.uncaptured.lock().unwrap_or_else(PoisonError::into_inner);
            slot.get_or_insert_with(|| convert(&error, 0));
        }));
    }

    /// What was reported since the last call. A loss is reported for ever.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(reason) = self.0.lost.get() {
            return Err(lost(reason.as_str()));
        }
        let mut slot = self.0.uncaptured.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take().map_or(Ok(()), Err)
    }
}
