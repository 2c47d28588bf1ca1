//! A list of cases on several targets: what a test of conformance does.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Case, Failure, Prepared, Report, Target, Turns};

/// The name of the target, the case and what came of it.
pub type Outcome = (String, Case, Result<Report, Failure>);

/// Runs every case on every target, the reference of each once, on as many threads as there are cores.
///
/// # Errors
/// Those of [`Prepared::new`]. What a target returns is part of its outcome.
///
/// # Panics
/// If a case does.
pub fn run_all<T: Target>(targets: &[T], cases: &[Case]) -> dyt::Result<Vec<Outcome>> {
    run(targets, cases, |_, _| true)
}

/// As [`run_all`], but of the software drivers each case has one: [`Turns`].
///
/// # Errors
/// As [`run_all`].
///
/// # Panics
/// As [`run_all`].
pub fn run_in_turns<T: Target>(targets: &[T], cases: &[Case]) -> dyt::Result<Vec<Outcome>> {
    let turns = Turns::among(targets);
    run(targets, cases, |target, case| turns.takes_case(target, case))
}

fn run<T: Target>(
    targets: &[T],
    cases: &[Case],
    takes: impl Fn(&str, &Case) -> bool + Sync,
) -> dyt::Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::with_capacity(targets.len() * cases.len()));
    let work = || -> dyt::Result<()> {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let prepared = Prepared::new(case)?;
            for target in targets.iter().filter(|target| takes(&target.name(), case)) {
                let outcome = (target.name(), *case, prepared.run(target));
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    Ok(outcomes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Prints the largest part of its bound that each output took, for each target, op and type.
///
/// # Panics
/// If a case failed: the message has every failure.
pub fn assert_all_pass(outcomes: &[Outcome]) {
    let mut worst = BTreeMap::new();
    let mut failures = Vec::new();
    for (target, case, outcome) in outcomes {
        match outcome {
            Ok(report) => {
                let Case { problem, .. } = case;
                for entry in &report.worst {
                    let key = (target, problem.op().name(), problem.dtype().name(), entry.output.name());
                    let ratio: &mut f64 = worst.entry(key).or_default();
                    *ratio = ratio.max(entry.ratio());
                }
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    for ((target, op, dtype, output), ratio) in &worst {
        println!("{target} {op} {dtype} {output}: {ratio:.2} of the bound");
    }
    failures.sort();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), outcomes.len(), failures.join("\n"));
}
