//! The one list of cases, on the CUDA kernels. `DYT_TEST_QUICK` takes the short list.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dyt_conformance::{Case, Failure, Prepared, Report, Target, cases, quick_cases};
use dyt_simt::{Order, Simt};

fn list() -> Vec<Case> {
    if std::env::var_os("DYT_TEST_QUICK").is_some() { quick_cases() } else { cases() }
}

/// What came of each case, by as many threads as there are cores.
fn run_all(target: &Simt, cases: &[Case]) -> Result<Vec<(Case, Result<Report, Failure>)>, Box<dyn Error>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || -> Result<(), dyt::Error> {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = Prepared::new(case)?.run(target);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((*case, outcome));
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

/// Fails if one of the cases did; prints the largest part of a bound that each output took.
fn judge(name: &str, outcomes: &[(Case, Result<Report, Failure>)]) {
    let mut worst = BTreeMap::new();
    let mut failures = Vec::new();
    for (case, outcome) in outcomes {
        match outcome {
            Ok(report) => {
                for entry in &report.worst {
                    let key = (case.problem.op().name(), case.problem.dtype().name(), entry.output.name());
                    let ratio: &mut f64 = worst.entry(key).or_default();
                    *ratio = ratio.max(entry.ratio());
                }
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    for ((op, dtype, output), ratio) in &worst {
        println!("{name} {op} {dtype} {output}: {ratio:.2} of the bound");
    }
    failures.sort();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), outcomes.len(), failures.join("\n"));
}

#[test]
fn every_case_passes() -> Result<(), Box<dyn Error>> {
    let target = Simt::new();
    println!("coverage: {}", target.name());
    let cases = list();
    let outcomes = run_all(&target, &cases)?;
    assert_eq!(outcomes.len(), cases.len());
    judge(&target.name(), &outcomes);
    Ok(())
}

/// A missing barrier, or threads that add in the order in which they come, would show as other bits.
#[test]
fn the_order_of_threads_and_blocks_does_not_matter() -> Result<(), Box<dyn Error>> {
    let target = Simt::new().orders(&Order::ALL);
    let cases: Vec<_> = list().into_iter().filter(|case| case.problem.elements() <= 20_000).collect();
    judge("in every order", &run_all(&target, &cases)?);
    Ok(())
}
