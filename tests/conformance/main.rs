//! The one list of cases, random cases, and every variant of the kernels of wgpu, on every device of this machine.
//! `DYT_TEST_QUICK` takes the short list, `DYT_REQUIRE` names devices that have to be there.
//!
//! They are one process because they share the devices: what a software driver compiles takes most of the time.
#![cfg(not(miri))]

#[cfg(feature = "wgpu")]
mod added;
#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "wgpu")]
mod many_rows;
mod properties;
mod quantised;
#[cfg(feature = "wgpu")]
#[path = "../wgpu/support.rs"]
#[allow(dead_code, reason = "`tests/wgpu` uses the rest")]
mod support;
#[cfg(feature = "wgpu")]
mod together;
#[cfg(feature = "wgpu")]
mod variants;

use std::collections::BTreeMap;
use std::error::Error;

use dyt::{DType, Op, Std};
use dyt_conformance::{
    Case, Prepared, Turns, Values, assert_all_pass, cases, check_required, coverage_line, devices_under_test,
    quick_cases, run_in_turns,
};

fn list() -> Vec<Case> {
    if std::env::var_os("DYT_TEST_QUICK").is_some() { quick_cases() } else { cases() }
}

#[test]
fn every_case_passes_on_every_device() -> Result<(), Box<dyn Error>> {
    println!("{}", coverage_line());
    let (devices, cases) = (devices_under_test(), list());
    let outcomes = run_in_turns(&devices, &cases)?;
    let turns = Turns::among(&devices);
    for device in &devices {
        let name = device.name();
        let expected = cases.iter().filter(|case| turns.takes_case(&name, case)).count();
        let ran = outcomes.iter().filter(|(target, ..)| *target == name).count();
        println!("{name}: {ran} of {} cases", cases.len());
        assert_eq!(ran, expected, "{name}");
    }
    assert_all_pass(&outcomes);
    Ok(())
}

/// The largest part of the outputs of an op that may be anything. Measured over the list: up to 0.0001 of the pointwise ops.
/// Of the norms up to 0.162 where values are not finite, because an infinity leaves a whole row open; 0.043 where they are
/// tiny, because a row of zeros with an eps of 0 has no rstd; none where they are huge.
fn most_open(op: Op, values: Values) -> f64 {
    match values {
        Values::NonFinite if !op.is_pointwise() => 0.2,
        Values::TinyNormal if !op.is_pointwise() => 0.06,
        _ => 0.001,
    }
}

/// A comparison that accepts anything for too many elements tests nothing.
#[test]
fn few_elements_may_be_anything() -> Result<(), Box<dyn Error>> {
    let mut shares = BTreeMap::new();
    // The short list is too short for shares; without its large cases the long one is quick enough.
    let largest = if std::env::var_os("DYT_TEST_QUICK").is_some() { 20_000 } else { usize::MAX };
    for case in cases().iter().filter(|case| case.problem.elements() <= largest) {
        let p = &case.problem;
        // A few values may lie so close together that the condition on |mean|·rstd fails: those far from 0, and some of
        // 70,001 pairs, where eps joins the deviation and not its square.
        let close = match case.values {
            Values::LargeOffset | Values::Displaced => p.cols() < 16,
            _ => p.cols() == 2 && p.std() == Std::Unbiased,
        };
        if close && p.op().has_mean() {
            continue;
        }
        for (output, open, all) in Prepared::new(case)?.unpromised() {
            let large = matches!(case.values, Values::Huge | Values::HugeNormal | Values::TinyNormal);
            if !large && case.values != Values::NonFinite {
                assert_eq!(open, 0, "{case}: {output}");
            } else if all > 0 {
                // Every output of every case counts the same, however large it is.
                let key = (p.op().name(), p.dtype().name(), case.values.name());
                let (_, sum, count) = shares.entry(key).or_insert((most_open(p.op(), case.values), 0.0, 0.0));
                *sum += open as f64 / all as f64;
                *count += 1.0;
            }
        }
    }
    assert_eq!(shares.len(), 4 * Op::ALL.len() * DType::ALL.len());
    for (key, (most, sum, count)) in shares {
        println!("{key:?}: {:.4} may be anything", sum / count);
        assert!(sum / count <= most, "{key:?}: {} may be anything", sum / count);
    }
    Ok(())
}

#[test]
fn required_devices_are_under_test() -> Result<(), Box<dyn Error>> {
    Ok(check_required()?)
}
