//! Results with a single mistake in them are not accepted.

use dyt::{DType, Device, Level, Op, Problem};

use super::*;
use crate::cases::Case;
use crate::data::{Values, round_to};
use crate::run::Run;
use crate::tolerance::storage_ulp;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Cases that have every output between them, with gaps between rows and behind the last, off the boundaries of
/// vectors, in place too.
fn each_case(check: impl Fn(&Judge<'_>, Results) -> Outcome) -> Outcome {
    let device = Device::cpu(Level::Portable)?;
    for op in [Op::Derf, Op::LayerNorm] {
        for dtype in DType::ALL {
            let problem = Problem::new(op, 3, 19).dtype(dtype).row_stride(22).accumulate(true).build()?;
            let case = Case::new(problem, Values::Normal).in_place(true).seed(3);
            let prepared = Prepared::new(&case)?;
            let results = Run { target: &device, prepared: &prepared }.results()?;
            check(&Judge { target: &device, prepared: &prepared }, results)?;
        }
    }
    Ok(())
}

fn dtype_of(judge: &Judge<'_>, output: Output) -> DType {
    match output {
        Output::Y | Output::Dx => judge.prepared.case.problem.dtype(),
        _ => DType::F32,
    }
}

#[test]
fn what_the_kernels_write_is_accepted() -> Outcome {
    each_case(|judge, results| {
        let report = judge.verdict(&results)?;
        let outputs: Vec<Output> = report.worst.iter().map(|worst| worst.output).collect();
        let asked = Output::ALL.into_iter().filter(|output| judge.prepared.case.asks(*output));
        assert_eq!(outputs, asked.collect::<Vec<_>>());
        assert!(report.worst.iter().all(|worst| worst.error <= worst.bound));
        Ok(())
    })
}

#[test]
fn one_wrong_lane_is_found() -> Outcome {
    each_case(|judge, mut results| {
        results.in_place = None;
        for entry in 0..results.out_of_place.len() {
            let Role::Output(output) = results.out_of_place[entry].0 else { continue };
            let dtype = dtype_of(judge, output);
            let all = judge.prepared.truth.of(Arithmetic::of(judge.target.backend()), output);
            assert_eq!(all.iter().map(|(at, _)| *at).collect::<Vec<_>>(), judge.indices(output));
            for (at, expected) in all {
                assert!(!expected.is_open(), "{output}[{at}]");
                let right = results.out_of_place[entry].1.get(at);
                let (value, bound) = expected.parts();
                let beside = round_to(dtype, value + bound + storage_ulp(dtype, value.abs() + bound));
                for wrong in [f32::NAN, f32::INFINITY, beside] {
                    results.out_of_place[entry].1.put(at as isize, wrong);
                    let found = judge.verdict(&results);
                    assert!(
                        matches!(found, Err(Failure::Wrong { output: of, index, got, .. })
                            if (of, index, got.to_bits()) == (output, at, wrong.to_bits())),
                        "{output}[{at}] = {wrong:e}: {found:?}"
                    );
                }
                results.out_of_place[entry].1.put(at as isize, right);
            }
        }
        judge.verdict(&results)?;
        Ok(())
    })
}

#[test]
fn one_lost_canary_is_found() -> Outcome {
    each_case(|judge, mut results| {
        for in_place in [false, true] {
            for entry in 0..results.out_of_place.len() {
                let role = results.out_of_place[entry].0;
                let gaps = matches!(role, Role::Output(Output::Y | Output::Dx));
                let canaries = results.out_of_place[entry].1.canaries();
                // In front, behind, and three in each of three gaps.
                assert_eq!(canaries.len(), 65 + 67 + if gaps { 9 } else { 0 });
                for at in canaries {
                    let mut put = |value| {
                        let list = results.in_place.as_mut().filter(|_| in_place);
                        list.unwrap_or(&mut results.out_of_place)[entry].1.put(at, value);
                        judge.verdict(&results)
                    };
                    let found = put(0.0);
                    let name = match role {
                        Role::Output(output) => output.name(),
                        Role::Workspace => "workspace",
                    };
                    assert!(
                        matches!(found, Err(Failure::Overwritten { buffer, offset, .. })
                            if (buffer, offset) == (name, at)),
                        "{name} {at}: {found:?}"
                    );
                    put(crate::host::CANARY)?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn one_difference_in_place_is_found() -> Outcome {
    each_case(|judge, mut results| {
        for entry in 0..results.out_of_place.len() {
            let Role::Output(output) = results.out_of_place[entry].0 else { continue };
            let dtype = dtype_of(judge, output);
            for at in judge.indices(output) {
                let right = results.out_of_place[entry].1.get(at);
                let next = round_to(dtype, f64::from(right) + storage_ulp(dtype, right.into()));
                let mut put = |value| {
                    if let Some(list) = &mut results.in_place {
                        list[entry].1.put(at as isize, value);
                    }
                    judge.verdict(&results)
                };
                for wrong in [next, -right, f32::NAN] {
                    let found = put(wrong);
                    assert!(
                        matches!(found, Err(Failure::InPlace { output: of, index, got, .. })
                            if (of, index, got.to_bits()) == (output, at, wrong.to_bits())),
                        "{output}[{at}] = {wrong:e}: {found:?}"
                    );
                }
                put(right)?;
            }
        }
        Ok(())
    })
}
