//! The embedded PTX against the plans that launch it: every kernel is there, and takes the parameter that it is given.
#![cfg(feature = "cuda")]

use std::collections::{BTreeMap, BTreeSet};

use dyt::cuda::plan::Entry;
use dyt::cuda::ptx::{self, Ptx};

/// The parameters of each entry: the bytes of each one, and the threads that a block may have.
fn entries(ptx: &Ptx) -> BTreeMap<String, (Vec<usize>, usize)> {
    let parts = ptx.text().split(".entry ").skip(1);
    parts
        .map(|part| {
            let (name, rest) = part.split_once('(').expect("a list of parameters");
            let (parameters, rest) = rest.split_once(')').expect("the end of the list");
            let sizes = parameters.lines().filter(|line| line.contains(".param")).map(bytes).collect();
            let (directives, _) = rest.split_once('{').expect("a body");
            (name.trim().to_owned(), (sizes, threads(directives)))
        })
        .collect()
}

/// The bytes of `.param .align 8 .b8 NAME[88]`.
fn bytes(parameter: &str) -> usize {
    let size = parameter.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    size.and_then(|(size, _)| size.parse().ok()).expect("a struct by value")
}

/// The product of `.maxntid 256, 1, 1`.
fn threads(directives: &str) -> usize {
    let line = directives.lines().find_map(|line| line.split_once(".maxntid")).expect("__launch_bounds__").1;
    line.split(',').map(|n| n.trim().parse::<usize>().expect("a number")).product()
}

#[test]
fn every_kernel_takes_the_struct_of_its_plan() {
    for ptx in ptx::all() {
        let mut found = entries(ptx);
        for entry in Entry::all().filter(|entry| entry.file() == ptx.file()) {
            let found = found.remove(entry.name());
            assert!(found.is_some(), "{ptx:?} has no {}", entry.name());
            let (sizes, threads) = found.unwrap_or_default();
            assert_eq!(sizes, [entry.args_bytes()], "{ptx:?}: {}", entry.name());
            assert!((32..=1024).contains(&threads), "{ptx:?}: {}: {threads}", entry.name());
        }
        assert!(found.is_empty(), "{ptx:?} has kernels that no plan names: {found:?}");
    }
}

#[test]
fn prebuilt_ptx_is_for_old_drivers_and_names_no_path() {
    let prebuilt: Vec<_> = ptx::all().iter().filter(|ptx| ptx.is_prebuilt()).collect();
    let names: BTreeSet<_> = prebuilt.iter().map(|ptx| (ptx.file(), ptx.architecture())).collect();
    assert_eq!(names.len(), prebuilt.len());
    for file in Entry::FILES {
        assert!(names.contains(&(file, 75)) && names.contains(&(file, 80)), "{file}");
    }
    assert!(names.iter().all(|(file, _)| Entry::FILES.contains(file)), "{names:?}");
    for ptx in prebuilt {
        let head: Vec<_> = ptx.text().lines().take(3).collect();
        assert_eq!(head, [".version 8.0", &format!(".target sm_{}", ptx.architecture()), ".address_size 64"]);
        assert!(!ptx.text().contains('/') && !ptx.text().contains('\0'), "{ptx:?}");
        assert!(!ptx.text().contains(".local"), "{ptx:?} has arrays in local memory");
        assert_eq!(ptx.c_str().to_bytes(), ptx.text().as_bytes());
    }
}

#[test]
fn the_best_ptx_of_a_kernel() {
    for entry in Entry::all() {
        let best = |capability| ptx::of(entry, capability).map(|ptx| (ptx.file(), ptx.architecture()));
        assert_eq!(best(70), None);
        for capability in [75, 79, 80, 89, 90, 100, 120] {
            let of_file = ptx::all().iter().filter(|ptx| ptx.is_prebuilt() && ptx.file() == entry.file());
            let newest = of_file.map(Ptx::architecture).filter(|&of| of <= capability).max();
            assert_eq!(best(capability), newest.map(|of| (entry.file(), of)));
            // Every file has these two.
            assert!(newest >= Some(if capability < 80 { 75 } else { 80 }));
        }
    }
}
