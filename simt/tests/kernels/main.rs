//! The one list of cases, on the CUDA kernels. `DYT_TEST_QUICK` takes the short list.

mod strays;

use std::error::Error;

use dyt::cuda::plan::{Entry, Limits};
use dyt::{DType, Op, Problem, Storage};
use dyt_conformance::{
    Case, Prepared, Statistics, Target, VARIANTS, Values, assert_all_pass, cases, quick_cases, run_all,
};
use dyt_simt::{Launched, Order, Simt, launched};

fn list() -> Vec<Case> {
    if std::env::var_os("DYT_TEST_QUICK").is_some() { quick_cases() } else { cases() }
}

/// Shapes that the list lacks and CUDA has a way of its own for: rows that no registers hold, by 16 bytes and by
/// elements, several of them for a block; rows that several warps share; many rows for each sum; a residual of each type.
fn more_cases() -> dyt::Result<Vec<Case>> {
    let mut list = Vec::new();
    let values = [Values::Normal, Values::LargeOffset, Values::EqualRows, Values::NonFinite];
    for (i, (op, std)) in VARIANTS.into_iter().enumerate() {
        for (k, storage) in Storage::ALL.into_iter().enumerate() {
            let problem = |rows, cols| Problem::new(op, rows, cols).std(std).storage(storage).build();
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
            list.push(Case::new(problem(70, 520)?, Values::Normal).residual(true).seed(8));
        }
        let f32s = |rows, cols| Problem::new(op, rows, cols).std(std).build();
        list.push(Case::new(f32s(300, 8_224)?, Values::Normal).seed(6));
        list.push(Case::new(f32s(2_800_000, 3)?, Values::EqualRows).seed(1));
    }
    Ok(list)
}

/// A kernel with each pair of storage types that it may be launched for.
fn uses(entry: Entry) -> Vec<Launched> {
    if entry == Entry::Fold {
        return vec![(entry.name(), None)];
    }
    let pairs = Storage::ALL.into_iter().filter(|pair| entry.takes(pair.dtype()));
    let told = pairs.map(|pair| {
        let code = DType::ALL.iter().position(|&of| of == pair.dtype()).unwrap_or_default();
        (entry.name(), Some((code as u32, u32::from(pair.param_dtype() == DType::F32))))
    });
    told.collect()
}

#[test]
fn every_case_passes() -> Result<(), Box<dyn Error>> {
    let targets = [Simt::new()];
    println!("coverage: {}", targets[0].name());
    let cases = list();
    let outcomes = run_all(&targets, &cases)?;
    assert_eq!(outcomes.len(), cases.len());
    assert_all_pass(&outcomes);
    if std::env::var_os("DYT_TEST_QUICK").is_some() {
        return Ok(());
    }
    println!("more cases:");
    assert_all_pass(&run_all(&targets, &more_cases()?)?);
    let done = launched();
    let missing: Vec<_> = Entry::all().flat_map(uses).filter(|of| !done.contains(of)).collect();
    assert!(missing.is_empty(), "what no case has run: {missing:?}");
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
    let targets = [Simt::new().orders(&Order::ALL)];
    let small = |case: &Case| case.problem.elements() <= 20_000;
    let mut cases: Vec<_> = list().into_iter().filter(small).collect();
    if std::env::var_os("DYT_TEST_QUICK").is_none() {
        let few = |case: &Case| case.problem.elements() <= 100_000 && case.values == Values::Normal;
        cases.extend(more_cases()?.into_iter().filter(few));
    }
    println!("in every order:");
    assert_all_pass(&run_all(&targets, &cases)?);
    Ok(())
}
