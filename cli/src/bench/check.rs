//! A device that computes wrong results is not measured.

use dyt::Device;
use dyt_conformance::{Case, Worst, quick_cases, run_case};

use super::record::Checked;

/// Cases that are run: a sample, because `dyt check` runs them all.
const CASES: usize = 96;

/// Compares some results of `device` with the f64 reference.
pub(crate) fn check(device: &Device, in_full: bool) -> Checked {
    let mut checked = Checked { device: device.name(), in_full, cases: 0, worst: 0.0, failure: None };
    for case in &sample(quick_cases(), CASES) {
        match run_case(device, case) {
            Ok(report) => {
                checked.cases += 1;
                checked.worst = report.worst.iter().map(Worst::ratio).fold(checked.worst, f64::max);
            }
            Err(failure) => {
                checked.failure = Some(failure.to_string());
                break;
            }
        }
    }
    checked
}

/// About `count` of the cases, evenly from the whole list.
fn sample(cases: Vec<Case>, count: usize) -> Vec<Case> {
    let step = cases.len().div_ceil(count).max(1);
    cases.into_iter().step_by(step).collect()
}

/// What the terminal shows of it.
pub(crate) fn line(checked: &Checked) -> String {
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
