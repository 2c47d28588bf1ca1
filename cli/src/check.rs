//! `dyt check`: the conformance cases on every device, and how near the results come to their bounds.

use std::fmt::Write as _;

use clap::Args;
use dyt::{DType, Device, Op, Std};
use dyt_conformance::{Case, Failure, Output, Prepared, Report, Worst, cases, quick_cases};

use crate::error::CliError;
use crate::out;

/// How many failures of a device are told in full.
const TOLD: usize = 5;
const TEMPLATE: &str = "{bar:40} {pos}/{len} cases {eta}";

/// Arguments of `dyt check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Check this device and no other; may be repeated [default: all that are found]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    device: Vec<String>,
    /// A choice of the cases, in seconds
    #[arg(long)]
    quick: bool,
    /// List the error and the bound of each output, and not only their ratio
    #[arg(long)]
    details: bool,
}

/// Runs the cases, prints a table for each device, and fails if a case failed.
pub(crate) fn run(args: &CheckArgs) -> Result<(), CliError> {
    let devices = devices(&args.device)?;
    let cases = if args.quick { quick_cases() } else { cases() };
    let bar = out::progress((devices.len() * cases.len()) as u64, TEMPLATE);
    let (mut failed, mut total) = (0, 0);
    let mut tallies: Vec<Tally> = devices.iter().map(|_| Tally::default()).collect();
    for case in &cases {
        // Most of the work, and the same for every device.
        let prepared = Prepared::new(case)?;
        for (device, tally) in devices.iter().zip(&mut tallies) {
            tally.add(case, prepared.run(device));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    out::print(&options(&cases))?;
    for (device, tally) in devices.iter().zip(tallies) {
        failed += tally.failed;
        total += cases.len();
        out::print(&tally.text(&device.name(), cases.len(), args.details))?;
    }
    if args.device.is_empty() {
        out::print(&absent())?;
    }
    if failed == 0 { Ok(()) } else { Err(CliError::Conformance { failed, total }) }
}

fn devices(names: &[String]) -> Result<Vec<Device>, CliError> {
    if names.is_empty() {
        return Ok(dyt_conformance::devices_under_test());
    }
    names.iter().map(|name| Device::open(name).map_err(CliError::from)).collect()
}

/// How many cases have which option, on a line.
fn options(cases: &[Case]) -> String {
    let count = |has: fn(&Case) -> bool| cases.iter().filter(|case| has(case)).count();
    format!(
        "{} cases, {} with a residual, {} with heads, {} with groups of parameters, {} with a quantised y\n\n",
        cases.len(),
        count(|case| case.residual),
        count(|case| case.problem.heads() > 1),
        count(|case| case.problem.param_groups() > 1),
        count(|case| case.quantised.is_some()),
    )
}

/// One line for each device that is not there, with the reason.
fn absent() -> String {
    let reason = |candidate: dyt::Candidate| {
        let error = candidate.device.err()?;
        Some(format!("not checked: {}: {}\n", candidate.name, out::reason(&error)))
    };
    Device::candidates().into_iter().filter_map(reason).collect()
}

/// What the cases of one device came to.
#[derive(Debug, Default)]
struct Tally {
    rows: Vec<Row>,
    failed: usize,
    failures: Vec<String>,
}

/// The cases of one op and dtype.
#[derive(Debug)]
struct Row {
    op: Op,
    std: Std,
    dtype: DType,
    cases: usize,
    failed: usize,
    /// At most one of each output: the worst of all cases.
    worst: Vec<Worst>,
}

impl Row {
    const fn key(&self) -> (Op, Std, DType) {
        (self.op, self.std, self.dtype)
    }

    fn op_name(&self) -> String {
        match self.std {
            Std::Biased => self.op.to_string(),
            Std::Unbiased => format!("{} unbiased", self.op),
        }
    }

    fn of(&self, output: Output) -> Option<&Worst> {
        self.worst.iter().find(|worst| worst.output == output)
    }

    fn add(&mut self, report: Report) {
        for new in report.worst {
            match self.worst.iter_mut().find(|old| old.output == new.output) {
                // A NaN would be a failure, so that the ratios are ordered.
                Some(old) if old.ratio() < new.ratio() => *old = new,
                Some(_) => (),
                None => self.worst.push(new),
            }
        }
    }
}

impl Tally {
    fn add(&mut self, case: &Case, result: Result<Report, Failure>) {
        let problem = &case.problem;
        let (op, std, dtype) = (problem.op(), problem.std(), problem.dtype());
        let index = self.rows.iter().position(|row| row.key() == (op, std, dtype)).unwrap_or_else(|| {
            self.rows.push(Row { op, std, dtype, cases: 0, failed: 0, worst: Vec::new() });
            self.rows.len() - 1
        });
        let row = &mut self.rows[index];
        row.cases += 1;
        match result {
            Ok(report) => row.add(report),
            Err(failure) => {
                row.failed += 1;
                self.failed += 1;
                if self.failures.len() < TOLD {
                    self.failures.push(failure.to_string());
                }
            }
        }
    }

    fn text(mut self, device: &str, cases: usize, details: bool) -> String {
        let place = |row: &Row| {
            let dtype = DType::ALL.iter().position(|dtype| *dtype == row.dtype);
            (Op::ALL.iter().position(|op| *op == row.op), row.std == Std::Unbiased, dtype)
        };
        self.rows.sort_by_key(place);
        let mut text = match self.failed {
            0 => format!("{device}: all of {cases} cases within their bounds\n"),
            failed => format!("{device}: {failed} of {cases} cases FAILED\n"),
        };
        for failure in &self.failures {
            let _ = writeln!(text, "  {failure}");
        }
        if self.failed > self.failures.len() {
            let _ = writeln!(text, "  and {} more", self.failed - self.failures.len());
        }
        text.push_str(&if details { self.details() } else { self.ratios() });
        text.push('\n');
        text
    }

    /// The ratios alone: a row for each op and dtype, a column for each output.
    fn ratios(&self) -> String {
        let mut text = format!("  {:19} {:5} {:>6} {:>6}", "worst error ÷ bound", "dtype", "cases", "failed");
        for output in Output::ALL {
            let _ = write!(text, " {output:>6}");
        }
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "  {:19} {:5} {:6} {:6}", row.op_name(), row.dtype, row.cases, row.failed);
            for output in Output::ALL {
                let cell = row.of(output).map_or_else(|| "-".to_owned(), |w| format!("{:.3}", w.ratio()));
                let _ = write!(text, " {cell:>6}");
            }
            text.push('\n');
        }
        text
    }

    /// A line for each op, dtype and output.
    fn details(&self) -> String {
        let mut text = format!(
            "  {:19} {:5} {:6} {:>10} {:>10} {:>6}\n",
            "op", "dtype", "output", "error", "bound", "ratio"
        );
        for row in &self.rows {
            for worst in Output::ALL.into_iter().filter_map(|output| row.of(output)) {
                let (op, dtype, output) = (row.op_name(), row.dtype, worst.output);
                let (error, bound, ratio) = (worst.error, worst.bound, worst.ratio());
                let _ =
                    writeln!(text, "  {op:19} {dtype:5} {output:6} {error:10.3e} {bound:10.3e} {ratio:6.3}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyt::Problem;
    use dyt_conformance::Values;

    fn case(dtype: DType) -> dyt::Result<Case> {
        Ok(Case::new(Problem::new(Op::Dyt, 2, 3).dtype(dtype).build()?, Values::Normal))
    }

    fn worst(output: Output, error: f64) -> Worst {
        Worst { output, error, bound: 2.0 }
    }

    #[test]
    fn the_worst_of_all_cases_is_told() -> dyt::Result<()> {
        let mut tally = Tally::default();
        for error in [0.5, 1.0, 0.25] {
            let report = Report { worst: vec![worst(Output::Y, error), worst(Output::Dx, 2.0 - error)] };
            tally.add(&case(DType::F32)?, Ok(report));
        }
        tally.add(&case(DType::Bf16)?, Ok(Report { worst: vec![worst(Output::Y, 0.0)] }));
        let text = tally.text("cpu:portable", 4, false);
        assert!(text.starts_with("cpu:portable: all of 4 cases"), "{text}");
        let cells: Vec<Vec<_>> = text.lines().skip(2).map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(
            cells[0],
            ["dyt", "f32", "3", "0", "0.500", "-", "-", "-", "-", "0.875", "-", "-", "-", "-"]
        );
        assert_eq!(cells[1][..5], ["dyt", "bf16", "1", "0", "0.000"]);
        Ok(())
    }

    #[test]
    fn failures_are_counted_and_the_first_are_named() -> dyt::Result<()> {
        let mut tally = Tally::default();
        for _ in 0..7 {
            let source = dyt::Error::ZeroCols;
            let failure =
                Failure::Refused { device: "here".to_owned(), case: Box::new(case(DType::F16)?), source };
            tally.add(&case(DType::F16)?, Err(failure));
        }
        let text = tally.text("cpu:avx2", 7, true);
        assert!(text.starts_with("cpu:avx2: 7 of 7 cases FAILED"), "{text}");
        assert_eq!(text.matches("cols is 0").count(), TOLD);
        assert!(text.contains("and 2 more"), "{text}");
        Ok(())
    }
}
