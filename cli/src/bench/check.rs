//! A device that computes wrong results is not measured.

use dyt_conformance::{Case, Prepared, Worst, quick_cases};

use super::Target;
use super::record::Checked;
use crate::error::CliError;
use crate::out;

/// Cases that are run: a sample, because `dyt check` runs them all.
const CASES: usize = 96;

const TEMPLATE: &str = "check {bar:40} {pos}/{len} cases";

/// Compares some results of each device with the f64 reference, which is computed once for all of them, and prints
/// what came of it.
pub(crate) fn check(targets: &[Target]) -> Result<Vec<Checked>, CliError> {
    let begun = |target: &Target| {
        let (device, in_full) = (target.device.name(), target.in_full);
        Checked { device, in_full, cases: 0, worst: 0.0, failure: None }
    };
    let mut all: Vec<Checked> = targets.iter().map(begun).collect();
    let cases = sample(quick_cases(), CASES);
    let bar = out::progress(cases.len() as u64, TEMPLATE);
    for case in &cases {
        let prepared = Prepared::new(case)?;
        for (target, checked) in targets.iter().zip(&mut all).filter(|(_, checked)| checked.failure.is_none())
        {
            match prepared.run(&target.device) {
                Ok(report) => {
                    checked.cases += 1;
                    checked.worst = report.worst.iter().map(Worst::ratio).fold(checked.worst, f64::max);
                }
                Err(failure) => checked.failure = Some(failure.to_string()),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    all.iter().try_for_each(|checked| out::print(&line(checked)))?;
    Ok(all)
}

/// About `count` of the cases, evenly from the whole list.
fn sample(cases: Vec<Case>, count: usize) -> Vec<Case> {
    let step = cases.len().div_ceil(count).max(1);
    cases.into_iter().step_by(step).collect()
}

/// What the terminal shows of it.
fn line(checked: &Checked) -> String {
    match &checked.failure {
        None => format!(
            "{}: {} cases checked against f64, largest error {:.2} of its bound\n",
            checked.device, checked.cases, checked.worst
        ),
        Some(failure) => format!("{}: not measured, its check failed: {failure}\n", checked.device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_every_op_and_dtype() {
        let whole = quick_cases();
        let sample = sample(whole.clone(), CASES);
        assert!(sample.len() <= CASES && 2 * sample.len() >= CASES.min(whole.len()), "{}", sample.len());
        for op in dyt::Op::ALL {
            for dtype in dyt::DType::ALL {
                let covers = |case: &Case| case.problem.op() == op && case.problem.dtype() == dtype;
                assert!(sample.iter().any(covers), "{op} {dtype}");
            }
        }
    }

    #[test]
    fn a_failure_is_told() {
        let mut checked = Checked {
            device: "cpu:portable".to_owned(),
            in_full: true,
            cases: 12,
            worst: 0.5,
            failure: None,
        };
        assert!(line(&checked).contains("12 cases") && line(&checked).contains("0.50"));
        checked.failure = Some("y[3] is wrong".to_owned());
        assert!(line(&checked).contains("not measured") && line(&checked).contains("y[3] is wrong"));
    }
}
