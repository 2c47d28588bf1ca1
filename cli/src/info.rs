//! `dyt info`: what there is to compute on.

use std::env::consts::{ARCH, OS};
use std::fmt::Write as _;

use clap::Args;
use dyt::{Candidate, Device};
use serde_json::{Value, json};

use crate::bench::Machine;
use crate::error::CliError;
use crate::out;

/// The variables of the environment that choose a device.
const VARIABLES: [&str; 3] = ["DYT_BACKEND", "DYT_CPU_LEVEL", "RAYON_NUM_THREADS"];

/// Arguments of `dyt info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints this machine, every device that could be meant, and the one that is taken where none is named.
pub(crate) fn run(args: &InfoArgs) -> Result<(), CliError> {
    let (machine, candidates, auto) = (Machine::read(), Device::candidates(), Device::auto());
    out::print(&if args.json {
        format!("{:#}\n", object(&machine, &candidates, &auto))
    } else {
        table(&machine, &candidates, &auto)
    })
}

/// The cargo features that this program was built with.
fn features() -> Vec<&'static str> {
    let all = [
        ("rayon", cfg!(feature = "rayon")),
        ("cuda", cfg!(feature = "cuda")),
        ("wgpu", cfg!(feature = "wgpu")),
    ];
    all.into_iter().filter_map(|(name, built)| built.then_some(name)).collect()
}

/// Those of [`VARIABLES`] that are set.
fn environment() -> Vec<(&'static str, String)> {
    let value = |name| std::env::var_os(name).map(|value| (name, value.to_string_lossy().into_owned()));
    VARIABLES.into_iter().filter_map(value).collect()
}

fn table(machine: &Machine, candidates: &[Candidate], auto: &dyt::Result<Device>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:13} {value}");
    };
    line("dyt", &format!("{}, features: {}", env!("CARGO_PKG_VERSION"), features().join(", ")));
    line("system", &format!("{OS} on {ARCH}"));
    let cache =
        machine.last_level_cache.map_or_else(String::new, |b| format!(", largest cache {}", mebibytes(b)));
    line("processor", &format!("{}, {} threads{cache}", machine.processor, machine.threads));
    for (name, value) in environment() {
        line("environment", &format!("{name}={value}"));
    }
    for Candidate { name, device } in candidates {
        match device {
            // A level of the CPU is all that its name says.
            Ok(device) if device.level().is_some() => line(name, "available"),
            Ok(device) => line(name, &format!("available: {}", device.description())),
            Err(error) => line(name, &format!("absent: {}", out::reason(error))),
        }
    }
    match auto {
        Ok(device) => line("auto", &device.name()),
        Err(error) => line("auto", &format!("none: {error}")),
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn object(machine: &Machine, candidates: &[Candidate], auto: &dyt::Result<Device>) -> Value {
    let reason = |device: &dyt::Result<Device>| device.as_ref().err().map(out::reason);
    let device = |candidate: &Candidate| {
        json!({
            "name": candidate.name,
            "available": candidate.device.is_ok(),
            "description": candidate.device.as_ref().ok().map(Device::description),
            "reason": reason(&candidate.device),
        })
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "features": features(),
        "machine": machine,
        "environment": environment().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "devices": candidates.iter().map(device).collect::<Vec<_>>(),
        "auto": auto.as_ref().ok().map(Device::name),
        "auto_reason": reason(auto),
    })
}
