//! Quantised y in small: every op, type, kind of value and scale, on every device. And at random, with the other options.

use dyt::{Op, Problem, Std, Storage};
use dyt_conformance::{
    Case, Prepared, Quantised, VARIANTS, Values, assert_all_pass, devices_under_test, run_in_turns,
};
use proptest::prelude::{Strategy, any};
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::common::quick;

/// Each way with each kind of value, in shapes that have no word of their own for a row, and channels-first.
#[test]
fn every_way_meets_every_value_in_small() -> Result<(), Box<dyn std::error::Error>> {
    let shapes = [(5, 67, 1, 0), (3, 64, 1, 0), (4, 33, 1, 3), (3, 19, 5, 0), (2, 40, 33, 1)];
    let mut cases = Vec::new();
    for (k, (op, std)) in VARIANTS.into_iter().enumerate() {
        for (i, values) in Values::ALL.into_iter().enumerate() {
            for (j, quantised) in Quantised::all().into_iter().enumerate() {
                let (rows, cols, inner, gap) = shapes[(i + j) % shapes.len()];
                let problem = Problem::new(op, rows, cols).std(std).inner(inner);
                let problem = problem.row_stride(cols * inner + gap);
                let problem = problem.storage(Storage::ALL[(i + j + k) % Storage::ALL.len()]).build()?;
                let case = Case::new(problem, values).quantised(Some(quantised));
                cases.push(case.seed((7 * i + j) as u64));
            }
        }
    }
    assert_all_pass(&run_in_turns(&devices_under_test(), &cases)?);
    Ok(())
}

fn case() -> impl Strategy<Value = Case> {
    let kind = (select(VARIANTS.to_vec()), select(Storage::ALL.to_vec()), select(Quantised::all()));
    let shape = (1..=9_usize, 1..=1100_usize, 1..=5_usize, 0..=9_usize);
    let options = (any::<[bool; 4]>(), -2.0..2.0_f32, select(Values::ALL.to_vec()), any::<u32>());
    (kind, shape, options).prop_map(|((variant, storage, quantised), shape, options)| {
        let ((op, std), (rows, cols, inner, gap)) = (variant, shape);
        let ([first, residual, gamma, beta], offset, values, seed) = options;
        // No position has both many columns and others beside it.
        let (cols, inner) = if first { (cols % 70 + 1, inner * 13) } else { (cols, 1) };
        let cols = if std == Std::Unbiased { cols.max(2) } else { cols };
        let problem = Problem::new(op, rows, cols).std(std).storage(storage).inner(inner);
        let problem = problem.row_stride(cols * inner + gap).gamma_offset(offset);
        // No eps may hide that squares underflow.
        let problem = if values == Values::TinyNormal && op != Op::Dyt && op != Op::Derf {
            problem.eps(0.0)
        } else {
            problem
        };
        let case = Case::new(problem.build().expect("every choice is valid"), values);
        let case = case.residual(residual).gamma(gamma).beta(beta).seed(seed.into());
        case.quantised(Some(quantised))
    })
}

#[test]
fn any_problem_is_quantised_within_its_bounds() {
    let devices: Vec<_> =
        devices_under_test().into_iter().filter(|device| device.level().is_some()).collect();
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = if quick() { 24 } else { 512 };
    }
    let outcome = TestRunner::new(config).run(&case(), |case| {
        let fail = |error: String| TestCaseError::fail(error);
        let prepared = Prepared::new(&case).map_err(|error| fail(error.to_string()))?;
        for device in &devices {
            prepared.run(device).map_err(|failure| fail(failure.to_string()))?;
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.map_or_else(|error| error.to_string(), |()| String::new()));
}
