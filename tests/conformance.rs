//! The one list of cases, on every device of this machine. `DYT_TEST_QUICK` takes the short list, `DYT_REQUIRE` names
//! devices that have to be there.
#![cfg(not(miri))]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dyt::{DType, Op};
use dyt_conformance::{
    Case, Failure, Prepared, Report, Values, cases, check_required, coverage_line, devices_under_test,
    quick_cases,
};

/// The device, the case and what came of it.
type Outcome = (String, Case, Result<Report, Failure>);

fn list() -> Vec<Case> {
    if std::env::var_os("DYT_TEST_QUICK").is_some() { quick_cases() } else { cases() }
}

/// Runs every case on every device, the reference of each once, on as many threads as there are cores.
fn run_all(cases: &[Case]) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let devices = devices_under_test();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || -> Result<(), dyt::Error> {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let prepared = Prepared::new(case)?;
            for device in &devices {
                let outcome = prepared.run(device);
                let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                outcomes.push((device.name(), *case, outcome));
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a case panicked")?.map_err(Into::into))
            as Result<(), Box<dyn Error>>
    })?;
    Ok(outcomes.into_inner()?)
}

#[test]
fn every_case_passes_on_every_device() -> Result<(), Box<dyn Error>> {
    println!("{}", coverage_line());
    let cases = list();
    let outcomes = run_all(&cases)?;
    assert_eq!(outcomes.len(), cases.len() * devices_under_test().len());
    let mut worst = BTreeMap::new();
    let mut failures = Vec::new();
    for (device, case, outcome) in &outcomes {
        match outcome {
            Ok(report) => {
                for entry in &report.worst {
                    let key =
                        (device, case.problem.op().name(), case.problem.dtype().name(), entry.output.name());
                    let ratio: &mut f64 = worst.entry(key).or_default();
                    *ratio = ratio.max(entry.ratio());
                }
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    for ((device, op, dtype, output), ratio) in &worst {
        println!("{device} {op} {dtype} {output}: {ratio:.2} of the bound");
    }
    failures.sort();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), outcomes.len(), failures.join("\n"));
    Ok(())
}

/// The largest part of the outputs of an op that may be anything, where values are huge or not finite. Measured over
/// the list: up to 0.0001 of the pointwise ops and 0.162 of the norms, of which an infinity leaves a whole row open.
fn most_open(op: Op) -> f64 {
    if op.is_pointwise() { 0.001 } else { 0.2 }
}

/// A comparison that accepts anything for too many elements tests nothing.
#[test]
fn few_elements_may_be_anything() -> Result<(), Box<dyn Error>> {
    let mut shares = BTreeMap::new();
    // The short list is too short for shares; without its large cases the long one is quick enough.
    let largest = if std::env::var_os("DYT_TEST_QUICK").is_some() { 20_000 } else { usize::MAX };
    for case in cases().iter().filter(|case| case.problem.elements() <= largest) {
        let p = &case.problem;
        for (output, open, all) in Prepared::new(case)?.unpromised() {
            if !matches!(case.values, Values::Huge | Values::NonFinite) {
                assert_eq!(open, 0, "{case}: {output}");
            } else if all > 0 {
                // Every output of every case counts the same, however large it is.
                let key = (p.op().name(), p.dtype().name(), case.values.name());
                let (_, sum, count) = shares.entry(key).or_insert((p.op(), 0.0, 0.0));
                *sum += open as f64 / all as f64;
                *count += 1.0;
            }
        }
    }
    assert_eq!(shares.len(), 2 * Op::ALL.len() * DType::ALL.len());
    for (key, (op, sum, count)) in shares {
        println!("{key:?}: {:.4} may be anything", sum / count);
        assert!(sum / count <= most_open(op), "{key:?}: {} may be anything", sum / count);
    }
    Ok(())
}

#[test]
fn required_devices_are_under_test() -> Result<(), Box<dyn Error>> {
    Ok(check_required()?)
}
