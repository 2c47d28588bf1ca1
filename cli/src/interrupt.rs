//! Ctrl-C as a value, so that whoever has begun a file can remove it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::CliError;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C ends the work at the next [`check`]. Where that cannot be had, it ends the program as ever.
pub(crate) fn watch() {
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
}

/// The error, if Ctrl-C was pressed.
pub(crate) fn check() -> Result<(), CliError> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(CliError::Interrupted) } else { Ok(()) }
}
