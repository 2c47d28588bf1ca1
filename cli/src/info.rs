//! `dyt info`.

use std::fmt::Write as _;

use clap::Args;
use dyt::{Candidate, Device};

use crate::error::CliError;
use crate::out;

/// Arguments of `dyt info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints every device that could be meant.
pub(crate) fn run(_args: &InfoArgs) -> Result<(), CliError> {
    out::print(&table(&Device::candidates()))
}

fn table(candidates: &[Candidate]) -> String {
    let mut text = String::new();
    for Candidate { name, device } in candidates {
        let state = device.as_ref().map_or_else(ToString::to_string, |_| "available".to_owned());
        let _ = writeln!(text, "{name:13} {state}");
    }
    text
}
