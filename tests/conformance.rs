//! The one list of cases, on every device of this machine. `DYT_TEST_QUICK` takes the short list, `DYT_REQUIRE` names
//! devices that have to be there.
#![cfg(not(miri))]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dyt_conformance::{
    Case, Failure, Prepared, Report, cases, check_required, coverage_line, devices_under_test, quick_cases,
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

#[test]
fn required_devices_are_under_test() -> Result<(), Box<dyn Error>> {
    Ok(check_required()?)
}
