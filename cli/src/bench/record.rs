//! What a run leaves behind: what the file of `--json`, the table and the report are made of.

use dyt::{DType, Op, Pass};
use dyt_measure::interleave::{Samples, Summary, steady_rounds};
use dyt_measure::{Baseline, Point};
use serde::Serialize;

use super::machine::Machine;

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Version of the command and of the library.
    pub(crate) version: String,
    /// When the run began, in UTC.
    pub(crate) date: String,
    /// `quick`, `full` or `selection`; and the form, if it is not the plain one.
    pub(crate) mode: String,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// The devices, and whether each may be measured.
    pub(crate) devices: Vec<Checked>,
    /// One for each device, number of threads, shape, dtype and pass.
    pub(crate) cells: Vec<Cell>,
    /// What was left out because the time was up.
    pub(crate) left_out: Vec<String>,
}

/// A device after its check against the f64 reference.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    /// The device's name.
    pub(crate) device: String,
    /// Whether it is measured on the whole grid, or in short beside a faster level.
    pub(crate) in_full: bool,
    /// Conformance cases that were run.
    pub(crate) cases: usize,
    /// The largest error of them, as a part of its bound.
    pub(crate) worst: f64,
    /// Why the device was not measured.
    pub(crate) failure: Option<String>,
}

/// One pass of every op at one point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    /// The device's name.
    pub(crate) device: String,
    /// Threads of the pool.
    pub(crate) threads: usize,
    /// `forward` or `backward`.
    pub(crate) pass: String,
    /// Rows of the tensors.
    pub(crate) rows: usize,
    /// Columns of the tensors.
    pub(crate) cols: usize,
    /// Storage type.
    pub(crate) dtype: String,
    /// Bytes that must be moved.
    pub(crate) bytes: u64,
    /// Rounds that were measured, those that were rejected among them.
    pub(crate) rounds: usize,
    /// Rounds in which the baseline was not steady, and which count for nothing.
    pub(crate) rejected: usize,
    /// Whether the baseline was steady at all; if not, no round was rejected.
    pub(crate) steady: bool,
    /// The same bytes, moved without computing anything.
    pub(crate) baselines: Vec<Timing>,
    /// The ops.
    pub(crate) ops: Vec<OpTiming>,
}

/// The time of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timing {
    /// Of the op or of the baseline.
    pub(crate) name: String,
    /// Median nanoseconds of a call.
    pub(crate) ns: f64,
    /// The nanoseconds that a quarter of the rounds stayed below.
    pub(crate) lower_ns: f64,
    /// The nanoseconds that a quarter of the rounds went above.
    pub(crate) upper_ns: f64,
    /// Gigabytes (10⁹) moved in a second.
    pub(crate) gb_s: f64,
}

/// The time of an op beside the times that it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpTiming {
    /// Time and bandwidth.
    pub(crate) timing: Timing,
    /// Speed as a part of that of the fastest baseline.
    pub(crate) fraction: f64,
    /// Elements in a nanosecond on each thread.
    pub(crate) elements_per_ns: f64,
    /// Time divided by LayerNorm's.
    pub(crate) to_layer_norm: f64,
}

/// What a cell is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The device's name.
    pub(crate) device: &'a str,
    /// Threads of the pool.
    pub(crate) threads: usize,
    /// The shape and dtype.
    pub(crate) point: Point,
    /// The pass.
    pub(crate) pass: Pass,
}

impl Place<'_> {
    /// The bytes of the pass as a part of those that a baseline moves: a copy that stands beside a backward is counted as if
    /// it moved three tensors at its pace.
    fn share(&self, baseline: Baseline) -> f64 {
        self.point.share(self.pass, baseline.tensors())
    }
}

impl Cell {
    /// Sums up samples. `baselines` and `ops` say which contender each name belongs to.
    pub(crate) fn new(
        place: Place<'_>,
        samples: &Samples,
        baselines: &[(Baseline, usize)],
        ops: &[(Op, usize)],
    ) -> Self {
        let bytes = place.point.moved_bytes(place.pass) as u64;
        let everything = vec![true; samples.rounds()];
        let median = |(baseline, contender): (Baseline, usize)| {
            samples.summary(contender, &everything).median * place.share(baseline)
        };
        let fastest = baselines.iter().min_by(|a, b| median(**a).total_cmp(&median(**b))).map(|(_, c)| *c);
        let steady = fastest.and_then(|contender| steady_rounds(samples.of(contender)));
        let kept = steady.as_deref().unwrap_or(&everything);

        let timing =
            |name: &str, contender, scale| Timing::new(name, samples.summary(contender, kept), bytes, scale);
        let baselines: Vec<Timing> =
            baselines.iter().map(|(b, c)| timing(b.name(), *c, place.share(*b))).collect();
        let ops: Vec<Timing> = ops.iter().map(|(op, c)| timing(op.name(), *c, 1.0)).collect();
        let best = baselines.iter().map(|b| b.ns).fold(f64::INFINITY, f64::min);
        let layer_norm = ops.iter().find(|t| t.name == Op::LayerNorm.name()).map_or(f64::NAN, |t| t.ns);
        let elements = place.point.elements() as f64 / place.threads as f64;
        let compared = |timing: Timing| OpTiming {
            fraction: best / timing.ns,
            elements_per_ns: elements / timing.ns,
            to_layer_norm: timing.ns / layer_norm,
            timing,
        };
        Self {
            device: place.device.to_owned(),
            threads: place.threads,
            pass: place.pass.name().to_owned(),
            rows: place.point.rows,
            cols: place.point.cols,
            dtype: place.point.dtype.name().to_owned(),
            bytes,
            rounds: samples.rounds(),
            rejected: kept.iter().filter(|kept| !**kept).count(),
            steady: steady.is_some(),
            ops: ops.into_iter().map(compared).collect(),
            baselines,
        }
    }

    /// The timing of `op`.
    pub(crate) fn op(&self, op: Op) -> Option<&OpTiming> {
        self.ops.iter().find(|o| o.timing.name == op.name())
    }

    /// The fastest way to move the same bytes.
    pub(crate) fn baseline(&self) -> Option<&Timing> {
        self.baselines.iter().min_by(|a, b| a.ns.total_cmp(&b.ns))
    }

    /// Whether the tensors do not fit the machine's caches.
    pub(crate) fn in_memory(&self, machine: &Machine) -> bool {
        self.bytes >= machine.cache_bytes()
    }

    /// Such as `4096×4096`.
    pub(crate) fn shape(&self) -> String {
        format!("{}×{}", self.rows, self.cols)
    }
}

impl Timing {
    /// Of a contender whose time is `scale` of what was measured.
    fn new(name: &str, summary: Summary, bytes: u64, scale: f64) -> Self {
        Self {
            name: name.to_owned(),
            ns: summary.median * scale,
            lower_ns: summary.lower * scale,
            upper_ns: summary.upper * scale,
            gb_s: bytes as f64 / (summary.median * scale),
        }
    }
}

impl OpTiming {
    /// Whether LayerNorm is faster: what this op stands in for.
    pub(crate) fn loses(&self) -> bool {
        is_slower(self.to_layer_norm) && self.timing.name != Op::LayerNorm.name()
    }
}

/// Whether a time divided by LayerNorm's is more than 1 in two digits: less than that is not seen by measuring.
pub(crate) fn is_slower(to_layer_norm: f64) -> bool {
    to_layer_norm >= 1.005
}

impl Record {
    /// The storage types that were measured, in the library's order.
    pub(crate) fn dtypes(&self) -> Vec<&'static str> {
        let measured = |name: &&str| self.cells.iter().any(|cell| cell.dtype == *name);
        DType::ALL.map(DType::name).into_iter().filter(measured).collect()
    }

    /// The numbers of threads that were measured, ascending.
    pub(crate) fn threads(&self) -> Vec<usize> {
        let mut threads: Vec<usize> = self.cells.iter().map(|cell| cell.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        threads
    }

    /// The names of the devices that were measured in full.
    pub(crate) fn devices_in_full(&self) -> impl Iterator<Item = &str> {
        let devices = self.devices.iter().filter(|checked| checked.in_full && checked.failure.is_none());
        devices.map(|checked| checked.device.as_str())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;
    use dyt_measure::Form;
    use dyt_measure::interleave::{Budget, interleave};

    /// A machine with a cache of a megabyte.
    pub(crate) fn machine() -> Machine {
        Machine {
            processor: "Test & Sons <1>".to_owned(),
            architecture: "x86_64".to_owned(),
            os: "linux".to_owned(),
            threads: 2,
            last_level_cache: Some(1 << 20),
        }
    }

    /// A cell in which copy takes 100 µs, NT copy 80, and the ops 100, 90, 120 and 60 µs.
    pub(crate) fn cell(device: &str, threads: usize, point: Point, pass: Pass) -> Cell {
        let times = [100, 80, 100, 90, 120, 60];
        let budget = Budget { batch: Duration::ZERO, least_rounds: 5, most_rounds: 5, total: Duration::ZERO };
        let time =
            |contender: usize, calls| Ok::<_, Infallible>(Duration::from_micros(times[contender]) * calls);
        let Ok(samples) = interleave(times.len(), &budget, Duration::MAX, time);
        let samples = samples.expect("five rounds make a median");
        let (plain, streaming) = match pass {
            Pass::Forward => (Baseline::Copy, Baseline::NtCopy),
            Pass::Backward => (Baseline::Triad, Baseline::NtTriad),
        };
        let ops: Vec<(Op, usize)> = Op::ALL.into_iter().zip(2..).collect();
        let place = Place { device, threads, point, pass };
        Cell::new(place, &samples, &[(plain, 0), (streaming, 1)], &ops)
    }

    /// Two devices, one of them refused; one cell in the cache and one in memory for each pass and thread number.
    pub(crate) fn record() -> Record {
        let mut cells = Vec::new();
        for threads in [1, 2] {
            for point in [Point::new(64, 768, DType::F32), Point::new(1000, 1000, DType::Bf16)] {
                cells.extend(Pass::ALL.map(|pass| cell("cpu:avx512", threads, point, pass)));
            }
        }
        let checked = |device: &str, in_full, failure: Option<&str>| Checked {
            device: device.to_owned(),
            in_full,
            cases: 12,
            worst: 0.8,
            failure: failure.map(str::to_owned),
        };
        Record {
            version: "1.2.3".to_owned(),
            date: "2026-11-24T17:55:05Z".to_owned(),
            mode: "quick".to_owned(),
            machine: machine(),
            devices: vec![checked("cpu:avx512", true, None), checked("cpu:avx2", false, Some("y: 3 > 1"))],
            cells,
            left_out: vec!["cpu:portable 64×768 f32, 1 thread".to_owned()],
        }
    }

    #[test]
    fn a_cell_compares_with_the_fastest_baseline_and_with_layer_norm() {
        let cell = cell("cpu:avx512", 2, Point::new(1000, 100, DType::F32), Pass::Forward);
        assert_eq!((cell.bytes, cell.rounds, cell.rejected, cell.steady), (800_000, 5, 0, true));
        assert_eq!(cell.baseline().map(|b| b.name.as_str()), Some("nt_copy"));
        let dyt = cell.op(Op::Dyt).expect("DyT was measured");
        assert!((dyt.fraction - 0.8).abs() < 1e-9 && (dyt.timing.gb_s - 8.0).abs() < 1e-9);
        assert!((dyt.elements_per_ns - 0.5).abs() < 1e-9 && (dyt.to_layer_norm - 100.0 / 120.0).abs() < 1e-9);
        assert!(!dyt.loses());
    }

    #[test]
    fn a_copy_beside_a_backward_counts_as_three_tensors() {
        let point = Point::new(64, 768, DType::F32);
        let share =
            |point, pass, baseline| Place { device: "cpu:avx512", threads: 1, point, pass }.share(baseline);
        assert_eq!(share(point, Pass::Backward, Baseline::DeviceCopy), 1.5);
        assert_eq!(share(point, Pass::Forward, Baseline::DeviceCopy), 1.0);
        assert_eq!(share(point, Pass::Backward, Baseline::NtTriad), 1.0);
        assert_eq!(share(point.with(Form::Residual), Pass::Forward, Baseline::NtCopy), 2.0);
        let samples = Summary { median: 4.0, lower: 2.0, upper: 6.0 };
        let timing = Timing::new("device_copy", samples, 12, 1.5);
        assert_eq!((timing.ns, timing.lower_ns, timing.upper_ns, timing.gb_s), (6.0, 3.0, 9.0, 2.0));
    }

    #[test]
    fn whoever_is_slower_than_layer_norm_loses() {
        let mut cell = cell("cpu:avx512", 1, Point::new(64, 768, DType::F32), Pass::Backward);
        assert_eq!(cell.bytes, 64 * 768 * 12);
        assert!(cell.ops.iter().all(|op| !op.loses()));
        cell.ops[0].to_layer_norm = 1.01;
        assert!(cell.ops[0].loses());
    }

    #[test]
    fn a_record_knows_what_it_holds() {
        let record = record();
        assert_eq!(record.dtypes(), ["f32", "bf16"]);
        assert_eq!(record.threads(), [1, 2]);
        assert_eq!(record.devices_in_full().collect::<Vec<_>>(), ["cpu:avx512"]);
        let places: Vec<bool> = record.cells.iter().map(|cell| cell.in_memory(&record.machine)).collect();
        assert_eq!(places, [false, false, true, true, false, false, true, true]);
    }
}
