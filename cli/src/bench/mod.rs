//! `dyt bench`: how fast every op is on every device, beside a copy of the same bytes and beside LayerNorm.

mod cell;
mod check;
mod error;
mod json;
mod machine;
mod medians;
mod plan;
mod plots;
mod record;
mod report;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use dyt::{DType, Device};
use dyt_measure::Form;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::CliError;
use crate::out;
use crate::tensor::{Sink, target_of};

pub(crate) use error::BenchError;
pub(crate) use machine::Machine;
use plan::{Plan, Shape};
use record::{Checked, Record};

/// Arguments of `dyt bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Only some shapes, in less than a minute.
    #[arg(long)]
    quick: bool,
    /// What the calls have beside the op: residual, param_rows (8 groups), heads (8 in a packed QKV), quant or quant_dynamic
    /// (f8e4m3, forward alone) [default: plain].
    #[arg(long, value_name = "FORM", default_value_t, hide_default_value = true)]
    with: Form,
    /// Where to write median and quartiles of every time.
    #[arg(long, value_name = "FILE", default_value = "dyt-bench.json")]
    json: PathBuf,
    /// Where to write the report.
    #[arg(long, value_name = "FILE", default_value = "dyt-bench.html")]
    html: PathBuf,
    /// Measure these devices in full, and no other [default: the best, and the other CPU levels in short].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    device: Vec<String>,
    /// Measure on so many threads [default: 1 and all].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// Measure these shapes instead of the grid's.
    #[arg(long, value_name = "ROWSxCOLS", value_delimiter = ',')]
    shape: Vec<Shape>,
    /// Measure these dtypes instead of the grid's.
    #[arg(long, value_name = "DTYPE", value_delimiter = ',', value_parser = plan::parse_dtype)]
    dtype: Vec<DType>,
}

/// A device, and whether it is measured in full.
struct Target {
    device: Device,
    in_full: bool,
}

/// Checks the devices, measures them, and writes the report and the numbers.
pub(crate) fn run(args: &BenchArgs) -> Result<(), CliError> {
    if target_of(&args.json) == target_of(&args.html) {
        return Err(CliError::Usage("--json and --html are the same file".to_owned()));
    }
    // A folder that cannot be written to is found now, and not after minutes.
    for path in [&args.json, &args.html] {
        drop(Sink::create(path, b"")?);
    }
    let begin = Instant::now();
    let plan = Plan::new(args.quick, args.with, &args.shape, &args.dtype);
    let targets = targets(&args.device)?;
    let mut record = Record {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: machine::now(),
        mode: plan.mode.clone(),
        machine: Machine::read(),
        devices: Vec::new(),
        cells: Vec::new(),
        left_out: Vec::new(),
    };
    let threads = thread_counts(&args.threads, record.machine.threads);
    out::print(&format!("{}, {}\n", record.machine.processor, table::threads_of(record.machine.threads)))?;
    record.devices = check::check(&targets)?;
    measure(&mut record, &targets, &threads, &plan, begin)?;
    let names: Vec<String> = record.devices_in_full().map(str::to_owned).collect();
    for name in names {
        out::print(&table::median_lines(&record, &name))?;
    }
    write(&record, &args.json, &args.html)?;
    failures(&record.devices)
}

/// The devices that are named, in full; or the best one in full and the other CPU levels in short.
fn targets(names: &[String]) -> Result<Vec<Target>, CliError> {
    if !names.is_empty() {
        let open = |name: &String| Ok(Target { device: Device::open(name)?, in_full: true });
        return names.iter().map(open).collect();
    }
    let best = Device::auto()?;
    let name = best.name();
    // A software driver is there to test kernels and not to run them: who wants its times names it.
    let others = Device::candidates().into_iter().filter(|candidate| !candidate.name.starts_with("wgpu:"));
    let others = others.filter_map(|candidate| candidate.device.ok());
    let others = others.filter(|device| device.name() != name);
    let others = others.map(|device| Target { in_full: device.level().is_none(), device });
    Ok(std::iter::once(Target { device: best, in_full: true }).chain(others).collect())
}

/// The numbers of threads that are named, or 1 and all; 1 alone where the library is built without threads.
fn thread_counts(named: &[u16], all: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = named.iter().copied().map(usize::from).collect();
    if counts.is_empty() {
        counts = vec![1, all];
    }
    if cfg!(not(feature = "rayon")) {
        counts = vec![1];
    }
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// A cell that is going to be measured.
struct Step<'a> {
    device: &'a Device,
    pool: &'a ThreadPool,
    point: dyt_measure::Point,
}

impl Step<'_> {
    fn name(&self) -> String {
        let threads = table::threads_of(self.pool.current_num_threads());
        format!("{} {}, {threads}", self.device.name(), self.point)
    }
}

fn measure(
    record: &mut Record,
    targets: &[Target],
    threads: &[usize],
    plan: &Plan,
    begin: Instant,
) -> Result<(), CliError> {
    let pools = threads.iter().map(|count| pool(*count)).collect::<Result<Vec<_>, _>>()?;
    let sound = |target: &&Target| {
        let name = target.device.name();
        record.devices.iter().any(|checked| checked.device == name && checked.failure.is_none())
    };
    let steps: Vec<Step<'_>> = targets.iter().filter(sound).flat_map(|t| steps(t, &pools, plan)).collect();
    let bar = out::progress(steps.len() as u64, "{bar:32} {pos}/{len} {msg}");
    let mut heading = None;
    for step in steps {
        bar.set_message(step.name());
        let left = || plan.left(begin.elapsed());
        let Some(cells) = cell::measure(step.device, step.pool, step.point, &plan.budget, left)? else {
            record.left_out.push(step.name());
            continue;
        };
        let mut text = String::new();
        let block = (cells[0].device.clone(), cells[0].threads);
        if heading.as_ref() != Some(&block) {
            text += &table::heading(&block.0, block.1);
            heading = Some(block);
        }
        text.extend(cells.iter().map(table::cell_lines));
        bar.suspend(|| out::print(&text))?;
        record.cells.extend(cells);
        bar.inc(1);
    }
    bar.finish_and_clear();
    for name in &record.left_out {
        out::print(&format!("not measured, because the time was up: {name}\n"))?;
    }
    Ok(())
}

/// The cells of one device: one number of threads after the other, so that the table has few headings.
fn steps<'a>(target: &'a Target, pools: &'a [ThreadPool], plan: &'a Plan) -> Vec<Step<'a>> {
    let points = if target.in_full { &plan.in_full } else { &plan.in_short };
    // The threads of the host do nothing for a device with a memory of its own.
    let on_host = target.device.level().is_some();
    let pools = if target.in_full && on_host { pools } else { &pools[..1] };
    let mut steps = Vec::new();
    for pool in pools {
        let several = pool.current_num_threads() > 1;
        // Where the library stays on one thread anyway, a second line would tell nothing.
        let worth = points.iter().filter(|point| !several || point.takes_threads() || pools.len() == 1);
        steps.extend(worth.map(|point| Step { device: &target.device, pool, point: *point }));
    }
    steps
}

fn pool(threads: usize) -> Result<ThreadPool, CliError> {
    let name = |index| format!("bench-{index}");
    let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
    pool.map_err(|source| BenchError::Threads { threads, source }.into())
}

/// Both files under temporary names first, so that there is never half of one.
fn write(record: &Record, json: &Path, html: &Path) -> Result<(), CliError> {
    let numbers = json::text(record).map_err(std::io::Error::from).map_err(CliError::io(json))?;
    let page = report::html(record).map_err(CliError::io(html))?;
    let json_file = Sink::create(json, numbers.as_bytes())?.finish()?;
    let html_file = Sink::create(html, page.as_bytes())?.finish()?;
    json_file.commit()?;
    html_file.commit()?;
    out::print(&format!("\nreport: {}\nnumbers: {}\n", html.display(), json.display()))
}

/// The error, if a device was refused.
fn failures(devices: &[Checked]) -> Result<(), CliError> {
    let failed: Vec<&str> =
        devices.iter().filter(|checked| checked.failure.is_some()).map(|c| c.device.as_str()).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(BenchError::CheckFailed { devices: failed.join(", ") }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_device_is_measured_in_full_and_the_other_levels_in_short() -> Result<(), CliError> {
        let targets = targets(&[])?;
        assert!(targets[0].in_full && targets[1..].iter().all(|target| !target.in_full));
        assert_eq!(targets.iter().filter(|t| t.device.name() == targets[0].device.name()).count(), 1);
        Ok(())
    }

    #[test]
    fn named_devices_are_measured_in_full() -> Result<(), CliError> {
        let targets = targets(&["cpu:portable".to_owned()])?;
        assert_eq!(
            (targets.len(), targets[0].in_full, targets[0].device.name().as_str()),
            (1, true, "cpu:portable")
        );
        assert!(matches!(
            super::targets(&["tpu".to_owned()]),
            Err(CliError::Dyt(dyt::Error::UnknownBackend { .. }))
        ));
        Ok(())
    }

    #[test]
    fn threads_are_one_and_all() {
        if cfg!(feature = "rayon") {
            assert_eq!(thread_counts(&[], 8), [1, 8]);
            assert_eq!(thread_counts(&[4, 2, 4], 8), [2, 4]);
        }
        assert_eq!(thread_counts(&[], 1), [1]);
    }

    #[test]
    fn small_points_are_measured_on_one_thread_alone() -> Result<(), CliError> {
        let target = Target { device: Device::cpu(dyt::Level::Portable)?, in_full: true };
        let plan = Plan::new(true, Form::Plain, &[], &[]);
        let pools = [pool(1)?, pool(2)?];
        let steps = steps(&target, &pools, &plan);
        let small = plan.in_full.iter().filter(|point| !point.takes_threads()).count();
        assert!(small > 0);
        assert_eq!(steps.len(), 2 * plan.in_full.len() - small);
        Ok(())
    }
}
