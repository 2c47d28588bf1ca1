//! What the user sees: text on the standard output, one line for an error, progress on a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::CliError;

/// Writes to the standard output. That the reader has gone away (`dyt info | head -1`) is no error.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Stdout(error)),
        _ => Ok(()),
    }
}

/// Writes the line `dyt: note: …` to the standard error.
pub(crate) fn note(text: &str) {
    complain(&format_args!("note: {text}"));
}

/// Writes the line `dyt: …` to the standard error. Where that is closed, there is nobody to tell.
pub(crate) fn complain(error: &impl Display) {
    // Names of files may hold anything.
    let line = error.to_string().replace(char::is_control, " ");
    let _ = writeln!(io::stderr().lock(), "dyt: {line}");
}

/// A progress bar on the standard error, hidden where that is no terminal. `template` is indicatif's.
pub(crate) fn progress(length: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("━╸─"))
}

/// Why a device is absent, without its name, which stands before it.
pub(crate) fn reason(error: &dyt::Error) -> String {
    match error {
        dyt::Error::BackendUnavailable { reason, .. } | dyt::Error::LevelUnavailable { reason, .. } => {
            reason.to_string()
        }
        other => other.to_string(),
    }
}
