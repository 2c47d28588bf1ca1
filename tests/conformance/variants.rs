//! Every variant of every kernel of wgpu: that it compiles, and that what it computes is right.

use std::collections::BTreeSet;

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::Features;
use dyt::{Device, Problem, Quant, Std, Storage};
use dyt_conformance::{
    Case, Quantised, Turns, VARIANTS, Values, assert_all_pass, devices_under_test, run_all,
};

use crate::many_rows;
use crate::support::{Outcome, adapters, open};
use crate::together::Together;

/// Columns of rows that a lane or a few add up. The first are whole blocks of 16 bytes.
const SHORT: [usize; 2] = [72, 67];
/// Columns that 256 lanes keep in registers: in f32 and in the backward of 16-bit types 2049 to 4096, in the forward of
/// 16-bit types 4097 to 8192.
const OF_A_WORKGROUP: [usize; 4] = [4096, 4095, 8192, 8191];
/// Columns of rows that are read again.
const LONG: [usize; 2] = [8200, 8199];

/// A case for each variant that rows of these columns ask for; with channels-first data if `first`.
fn list(short: &[usize], long: &[usize], first: bool) -> dyt::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (op, std) in VARIANTS {
        for storage in Storage::ALL {
            // Parameters of another type are the same kernels.
            let one_type = storage.dtype() == storage.param_dtype();
            let has_long = !op.is_pointwise() && std == Std::Biased && one_type;
            let short = short.iter().map(|&cols| (5, cols, 1));
            let long = long.iter().filter(|_| has_long).map(|&cols| (2, cols, 1));
            for (rows, cols, inner) in short.chain(long).chain(first.then_some((2, 19, 5))) {
                let problem = Problem::new(op, rows, cols).inner(inner).std(std);
                let problem = problem.storage(storage).build()?;
                // An even seed, so that buffers begin at whole blocks.
                cases.push(Case::new(problem, Values::Normal).in_place(true).seed(4 * cases.len() as u64));
            }
        }
    }
    Ok(cases)
}

/// The kernels of the same adapter on a device without subgroup operations.
fn without_subgroups(kernels: &WgpuKernels) -> Result<WgpuKernels, Box<dyn std::error::Error>> {
    let name = kernels.device().adapter_info().name;
    let adapter = adapters().into_iter().find(|adapter| adapter.get_info().name == name);
    let adapter = adapter.ok_or("the adapter is still there")?;
    let (device, queue) = open(&adapter, Features::empty(), WgpuKernels::required_limits())?;
    let kernels = WgpuKernels::new(&device, &queue)?;
    assert!(!kernels.subgroups(), "{name}");
    Ok(kernels)
}

/// Runs the cases whose turn it is: with every argument in a buffer of its own, then with all in one. A residual and a
/// dsum take the variants of one buffer.
fn run(kernels: &WgpuKernels, cases: &[Case]) -> Outcome {
    assert_all_pass(&run_all(&[Device::from_wgpu(kernels)], cases)?);
    let together = [Together::new(kernels)?];
    assert_all_pass(&run_all(&together, cases)?);
    let with_residual: Vec<_> = cases.iter().map(|case| case.residual(true)).collect();
    assert_all_pass(&run_all(&together, &with_residual)?);
    let short = cases.iter().filter(|case| case.problem.cols() <= SHORT[0]);
    let each = Quant::ALL.into_iter().cycle();
    let quantise = |(case, quant): (&Case, Quant)| {
        case.in_place(false).quantised(Some(Quantised { quant, by_row: case.seed & 4 == 4 }))
    };
    let quantised: Vec<_> = short.zip(each).map(quantise).collect();
    assert_all_pass(&run_all(&[Device::from_wgpu(kernels)], &quantised)?);
    assert_all_pass(&run_all(&together, &quantised)?);
    Ok(())
}

/// Between them the adapters run every variant. What takes the time is that drivers compile, so that the software drivers
/// take turns; the list of cases gives each of them some half of the variants besides.
#[test]
fn every_variant_of_every_kernel_passes() -> Outcome {
    let devices = devices_under_test();
    let turns = Turns::among(&devices);
    let (mut compiled, mut all) = (BTreeSet::new(), BTreeSet::new());
    let mut check = |name: &str, kernels: &WgpuKernels| {
        let (got, asked) = (kernels.compiled_variants(), kernels.variants());
        println!("{name}: {} of {} variants, subgroups: {}", got.len(), asked.len(), kernels.subgroups());
        compiled.extend(got);
        all.extend(asked);
    };
    for (device, kernels) in devices.iter().filter_map(|device| Some((device, device.wgpu_kernels()?))) {
        let name = device.name();
        let taken = |mut cases: Vec<Case>| {
            cases.retain(|case| turns.takes_case(&name, case));
            cases
        };
        let rows = [OF_A_WORKGROUP.as_slice(), &LONG].concat();
        run(kernels, &taken(list(&SHORT, &rows, true)?))?;
        many_rows::check(kernels, |problem| turns.takes(&name, problem, true))?;
        check(&name, kernels);
        if kernels.subgroups() {
            let without = without_subgroups(kernels)?;
            run(&without, &taken(list(&[], &LONG, false)?))?;
            // Rows of a whole workgroup, added up by its memory: kernels of short rows, in another geometry. Their in-place
            // forms differ in what is read, which short rows cover.
            let rows = taken(list(&[], &OF_A_WORKGROUP, false)?);
            let rows: Vec<_> = rows.into_iter().map(|case| case.in_place(false)).collect();
            assert_all_pass(&run_all(&[Device::from_wgpu(&without)], &rows)?);
            check(&name, &without);
        }
    }
    assert_eq!(compiled, all);
    Ok(())
}
