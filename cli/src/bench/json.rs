//! A record as the file that `--json` writes: a line for each fact of the run, then a line for each cell. It has median
//! and quartiles of every time; speeds and ratios follow from them.

use serde::{Serialize, Serializer};

use super::record::{Cell, Record, Timing};

/// Of the layout of the file; a change that an old reader would misread makes it larger.
const FORMAT: u32 = 2;
/// Digits of a time behind the first: more than repeats from one run to the next.
const DIGITS: usize = 4;

/// The whole file.
pub(crate) fn text(record: &Record) -> serde_json::Result<String> {
    let facts = [
        ("format", serde_json::to_string(&FORMAT)?),
        ("version", serde_json::to_string(&record.version)?),
        ("date", serde_json::to_string(&record.date)?),
        ("mode", serde_json::to_string(&record.mode)?),
        ("machine", serde_json::to_string(&record.machine)?),
        ("devices", serde_json::to_string(&record.devices)?),
        ("left_out", serde_json::to_string(&record.left_out)?),
        ("times", serde_json::to_string("ns: [median, lower quartile, upper quartile]")?),
    ];
    let facts: String = facts.iter().map(|(name, value)| format!("\"{name}\": {value},\n")).collect();
    let cells = record.cells.iter().map(|cell| serde_json::to_string(&Line::new(cell)));
    let cells: Vec<String> = cells.collect::<Result<_, _>>()?;
    Ok(format!("{{\n{facts}\"cells\": [\n{}\n]\n}}\n", cells.join(",\n")))
}

/// A cell in the file.
#[derive(Serialize)]
struct Line<'a> {
    device: &'a str,
    threads: usize,
    pass: &'a str,
    rows: usize,
    cols: usize,
    dtype: &'a str,
    bytes: u64,
    rounds: usize,
    rejected: usize,
    steady: bool,
    baselines: Times<'a>,
    ops: Times<'a>,
}

impl<'a> Line<'a> {
    fn new(cell: &'a Cell) -> Self {
        Self {
            device: &cell.device,
            threads: cell.threads,
            pass: &cell.pass,
            rows: cell.rows,
            cols: cell.cols,
            dtype: &cell.dtype,
            bytes: cell.bytes,
            rounds: cell.rounds,
            rejected: cell.rejected,
            steady: cell.steady,
            baselines: Times(cell.baselines.iter().collect()),
            ops: Times(cell.ops.iter().map(|op| &op.timing).collect()),
        }
    }
}

/// An object: from each name to its times.
struct Times<'a>(Vec<&'a Timing>);

impl Serialize for Times<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let times = |timing: &Timing| [timing.ns, timing.lower_ns, timing.upper_ns].map(short);
        serializer.collect_map(self.0.iter().map(|timing| (&timing.name, times(timing))))
    }
}

/// The value with so many digits; what is no number stays none.
fn short(ns: f64) -> f64 {
    format!("{ns:.DIGITS$e}").parse().unwrap_or(ns)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{cell, record};
    use super::*;
    use dyt::Pass;
    use dyt_measure::grid;

    #[test]
    fn the_file_has_what_the_record_has() -> serde_json::Result<()> {
        let mut record = record();
        record.cells[0].baselines[0].lower_ns = 99_876.543_21;
        let text = text(&record)?;
        let read: serde_json::Value = serde_json::from_str(&text)?;
        assert_eq!((&read["format"], &read["version"]), (&FORMAT.into(), &record.version.into()));
        assert_eq!(read["machine"]["last_level_cache"], 1 << 20);
        assert_eq!(read["devices"][1]["failure"], "y: 3 > 1");
        assert_eq!(read["left_out"][0], record.left_out[0].as_str());
        let first = &read["cells"][0];
        assert_eq!(
            (&first["pass"], &first["rows"], &first["steady"]),
            (&"forward".into(), &64.into(), &true.into())
        );
        assert_eq!(first["baselines"]["copy"], serde_json::json!([100_000.0, 99_877.0, 100_000.0]));
        assert_eq!(first["ops"]["rms_norm"][0], 60_000.0);
        assert_eq!(read["cells"].as_array().map(Vec::len), Some(record.cells.len()));
        Ok(())
    }

    #[test]
    fn a_cell_is_a_line_and_a_whole_run_has_at_most_64_kb() -> serde_json::Result<()> {
        let mut record = record();
        let points =
            [1, 2].into_iter().flat_map(|threads| grid::grid().into_iter().map(move |p| (threads, p)));
        let cells =
            points.flat_map(|(threads, p)| Pass::ALL.map(|pass| cell("cpu:portable", threads, p, pass)));
        record.cells = cells.collect();
        for cell in &mut record.cells {
            for timing in cell.baselines.iter_mut().chain(cell.ops.iter_mut().map(|op| &mut op.timing)) {
                (timing.ns, timing.lower_ns, timing.upper_ns) = (1_234_567.8, 1_234_456.7, 1_345_678.9);
            }
        }
        let text = text(&record)?;
        let lines = text.lines().filter(|line| line.starts_with("{\"device\":")).count();
        assert_eq!(lines, record.cells.len());
        assert!(text.len() < 64 << 10, "{}", text.len());
        Ok(())
    }
}
