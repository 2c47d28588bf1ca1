//! The command `dyt`: what devices there are, whether they compute what they should, and ops on tensors in files.

mod bench;
mod check;
mod error;
mod info;
mod interrupt;
mod out;
mod run;
mod tensor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::CliError;

/// Fused kernels for DyT, Derf, LayerNorm and RMSNorm.
#[derive(Debug, Parser)]
#[command(name = "dyt", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every backend, level and device, and why the absent ones are absent.
    Info(info::InfoArgs),
    /// The conformance cases on each device: the worst error of each op and dtype beside its bound.
    Check(check::CheckArgs),
    /// The speed of every op on each device, beside a copy of the same bytes and beside LayerNorm.
    Bench(bench::BenchArgs),
    /// An op on a tensor in a file, forward or backward, by blocks of rows.
    Run(Box<run::RunArgs>),
}

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => dispatch(&cli.command),
        Err(error) if error.use_stderr() => Err(usage(&error)),
        Err(help) => out::print(&help.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&error);
            error.exit_code()
        }
    }
}

fn dispatch(command: &Command) -> Result<(), CliError> {
    match command {
        Command::Info(args) => info::run(args),
        Command::Check(args) => check::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Run(args) => run::run(args),
    }
}

/// The first paragraph of clap's message in one line: what follows it repeats the usage, which `--help` tells.
fn usage(error: &clap::Error) -> CliError {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    CliError::Usage(line.strip_prefix("error: ").unwrap_or(&line).to_owned())
}
