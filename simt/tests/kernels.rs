//! The one list of cases, on the CUDA kernels. `DYT_TEST_QUICK` takes the short list.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use dyt::cuda::plan::{Entry, Limits};
use dyt::{DType, Op, Problem};
use dyt_conformance::{
    Case, Failure, Prepared, Report, STORAGE, Statistics, Target, VARIANTS, Values, cases, quick_cases,
};
use dyt_simt::{Order, Simt, launched};

fn list() -> Vec<Case> {
    if std::env::var_os("DYT_TEST_QUICK").is_some() { quick_cases() } else { cases() }
}

/// A case and what came of it.
type Outcome = (Case, Result<Report, Failure>);

/// What came of each case, by as many threads as there are cores.
fn run_all(target: &Simt, cases: &[Case]) -> Result<Vec<Outcome>, Box<dyn Error>> {
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
fn judge(name: &str, outcomes: &[Outcome]) {
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

/// Shapes that the list lacks and CUDA has a way of its own for: rows that no registers hold, by 16 bytes and by
/// elements, several of them for a block; rows that several warps share; many rows for each sum.
fn more_cases() -> dyt::Result<Vec<Case>> {
    let mut list = Vec::new();
    let values = [Values::Normal, Values::LargeOffset, Values::EqualRows, Values::NonFinite];
    for (i, (op, std)) in VARIANTS.into_iter().enumerate() {
        for (k, (dtype, param_dtype)) in STORAGE.into_iter().enumerate() {
            let problem = |rows, cols| {
                Problem::new(op, rows, cols).std(std).dtype(dtype).param_dtype(param_dtype).build()
            };
            for (n, values) in values.into_iter().enumerate() {
                let statistics = Statistics::ALL[(i + k + n) % 4];
                let case = |problem, seed| {
                    Case::new(problem, values).statistics(statistics).in_place(n == 1).seed(seed)
                };
                list.push(case(problem(2, 40_960)?, 2 * k as u64));
                list.push(case(problem(2, 5_003)?, 1));
                list.push(case(problem(70, 1_024)?, 4));
            }
            list.push(Case::new(problem(1_100, 520)?, Values::Normal).seed(8));
        }
        let f32s = |rows, cols| Problem::new(op, rows, cols).std(std).build();
        list.push(Case::new(f32s(300, 8_224)?, Values::Normal).seed(6));
        list.push(Case::new(f32s(2_800_000, 3)?, Values::EqualRows).seed(1));
    }
    Ok(list)
}

#[test]
fn every_case_passes() -> Result<(), Box<dyn Error>> {
    let target = Simt::new();
    println!("coverage: {}", target.name());
    let cases = list();
    let outcomes = run_all(&target, &cases)?;
    assert_eq!(outcomes.len(), cases.len());
    judge(&target.name(), &outcomes);
    if std::env::var_os("DYT_TEST_QUICK").is_some() {
        return Ok(());
    }
    judge("more cases", &run_all(&target, &more_cases()?)?);
    let missing: Vec<_> = Entry::all().map(Entry::name).filter(|name| !launched().contains(name)).collect();
    assert!(missing.is_empty(), "kernels that no case has run: {missing:?}");
    Ok(())
}

/// How much of a long row shared memory keeps changes no bit, whether none of it, a part, or all; nor does fetching ahead.
#[test]
fn the_size_of_shared_memory_does_not_matter() -> Result<(), Box<dyn Error>> {
    for op in [Op::LayerNorm, Op::RmsNorm] {
        for statistics in [Statistics::Saved, Statistics::Recomputed] {
            let case = Case::new(Problem::new(op, 2, 40_960).build()?, Values::Normal).statistics(statistics);
            let limits = [4096, 60_000, 232_448, 500_000].map(|shared_bytes| Limits { shared_bytes });
            Prepared::new(&case)?.run(&Simt::new().limits(&limits))?;
            // Where there is room, the next row is fetched ahead.
            let case = Case::new(Problem::new(op, 600, 1_104).dtype(DType::Bf16).build()?, Values::Normal)
                .statistics(statistics);
            Prepared::new(&case)?.run(&Simt::new().limits(&limits))?;
        }
    }
    Ok(())
}

/// A missing barrier, or threads that add in the order in which they come, would show as other bits.
#[test]
fn the_order_of_threads_and_blocks_does_not_matter() -> Result<(), Box<dyn Error>> {
    let target = Simt::new().orders(&Order::ALL);
    let small = |case: &Case| case.problem.elements() <= 20_000;
    let mut cases: Vec<_> = list().into_iter().filter(small).collect();
    if std::env::var_os("DYT_TEST_QUICK").is_none() {
        let few = |case: &Case| case.problem.elements() <= 100_000 && case.values == Values::Normal;
        cases.extend(more_cases()?.into_iter().filter(few));
    }
    judge("in every order", &run_all(&target, &cases)?);
    Ok(())
}
