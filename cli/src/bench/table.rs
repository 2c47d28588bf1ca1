//! What the terminal shows: the cells as they are measured, and their medians at the end.

use std::fmt::Write as _;

use dyt::{Op, Pass};

use super::medians::{Residence, medians};
use super::record::{Cell, Record, is_slower};

/// Above the cells of one device and number of threads.
pub(crate) fn heading(device: &str, threads: usize) -> String {
    format!(
        "\n{device}, {}\n{:<12} {:<5} {:<9} {:<10} {:>10} {:>8} {:>8} {:>8} {:>8}\n",
        threads_of(threads),
        "rows×cols",
        "dtype",
        "pass",
        "op",
        "time",
        "GB/s",
        "of copy",
        "el/ns",
        "÷ LN",
    )
}

/// `1 thread`, `2 threads`.
pub(crate) fn threads_of(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// A line for each op of a cell, and one for what they are compared with.
pub(crate) fn cell_lines(cell: &Cell) -> String {
    let mut text = String::new();
    let place = format!("{:<12} {:<5} {:<9}", cell.shape(), cell.dtype, cell.pass);
    if let Some(baseline) = cell.baseline() {
        let _ =
            write!(text, "{place} {:<10} {:>10} {:>8.1}", baseline.name, time(baseline.ns), baseline.gb_s);
        let unsteady = if cell.steady { "" } else { "   (the machine was not quiet)" };
        let _ = writeln!(text, "{unsteady}");
    }
    for op in &cell.ops {
        let timing = &op.timing;
        let _ = writeln!(
            text,
            "{:28} {:<10} {:>10} {:>8.1} {:>8.2} {:>8.2} {:>8.2}{}",
            "",
            timing.name,
            time(timing.ns),
            timing.gb_s,
            op.fraction,
            op.elements_per_ns,
            op.to_layer_norm,
            if op.loses() { " slower" } else { "" },
        );
    }
    text
}

/// Nanoseconds in the unit that leaves one to three digits before the point.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// The medians as a table.
pub(crate) fn median_lines(record: &Record, device: &str) -> String {
    let mut text = format!("\nMedians on {device}{:>17}", "");
    for op in Op::ALL {
        let _ = write!(text, " {:>10}", op.name());
    }
    let _ = writeln!(text, "   dyt ÷ layer_norm");
    for medians in medians(record, device) {
        let (place, unit) = match (medians.residence, medians.pass) {
            (Residence::Memory, Pass::Forward) => ("memory", "of copy"),
            (Residence::Memory, Pass::Backward) => ("memory", "of triad"),
            (Residence::Caches, _) => ("caches", "el/ns"),
        };
        let _ = write!(
            text,
            "{:<8} {:<4} {place} {:<9} {unit:>8}",
            medians.pass.name(),
            medians.dtype,
            threads_of(medians.threads),
        );
        for value in medians.by_op {
            let _ = write!(text, " {value:>10.2}");
        }
        let slower = if is_slower(medians.dyt_to_layer_norm) { " slower" } else { "" };
        let _ = writeln!(text, " {:>18.2}{slower}", medians.dyt_to_layer_norm);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{cell, record};
    use super::*;
    use dyt::DType;
    use dyt_measure::Point;

    #[test]
    fn times_have_three_digits() {
        let shown = [5.0, 999.0, 1234.0, 56_780.0, 123_456_789.0, 2e9].map(time);
        assert_eq!(shown, ["5.00 ns", "999 ns", "1.23 µs", "56.8 µs", "123 ms", "2.00 s"]);
    }

    #[test]
    fn a_cell_has_a_line_for_the_baseline_and_one_for_each_op() {
        let mut cell = cell("cpu:avx512", 1, Point::new(4096, 1024, DType::Bf16), Pass::Forward);
        let lines = cell_lines(&cell);
        let shown: Vec<Vec<&str>> = lines.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(shown[0], ["4096×1024", "bf16", "forward", "nt_copy", "80.0", "µs", "209.7"]);
        assert_eq!(shown[1], ["dyt", "100", "µs", "167.8", "0.80", "41.94", "0.83"]);
        assert_eq!((shown.len(), shown[3][0], shown[3][6]), (5, "layer_norm", "1.00"));
        cell.steady = false;
        cell.ops[0].to_layer_norm = 1.5;
        let lines = cell_lines(&cell);
        assert!(lines.contains("not quiet") && lines.contains("1.50 slower"), "{lines}");
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let width = |text: &str| text.lines().map(|line| line.chars().count()).max();
        let cell = cell("cpu:avx512", 1, Point::new(4096, 16384, DType::Bf16), Pass::Backward);
        assert_eq!(width(&heading("cpu:avx512", 1)), width(&cell_lines(&cell)));
    }

    #[test]
    fn the_medians_have_a_line_each() {
        let record = record();
        let lines = median_lines(&record, "cpu:avx512");
        assert_eq!(lines.lines().count(), 2 + 8, "{lines}");
        assert!(lines.contains("of triad") && lines.contains("el/ns"), "{lines}");
    }
}
