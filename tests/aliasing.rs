//! Outputs that share memory with another argument: the in-place forms are allowed, and nothing else.

mod common;

use common::arena::{Call, outputs};
use dyt::{Argument, DType, Error, Pass, Problem, ProblemBuilder, Result};

/// The one argument that an output may take the place of.
fn partner(output: Argument) -> Option<Argument> {
    match output {
        Argument::Y => Some(Argument::X),
        Argument::Dx => Some(Argument::Dy),
        _ => None,
    }
}

fn calls(change: impl Fn(ProblemBuilder) -> ProblemBuilder) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for builder in common::problems(4, 6) {
        for dtype in DType::ALL {
            let problem: Problem = change(builder.dtype(dtype).param_dtype(DType::F32)).build()?;
            calls.extend(Pass::ALL.map(|pass| Call::new(problem, pass)));
        }
    }
    Ok(calls)
}

/// The pair as the error names it: an output comes before an input, and a later output before an earlier one.
fn clash(pass: Pass, a: Argument, b: Argument) -> Error {
    let order = |argument| outputs(pass).iter().position(|output| *output == argument);
    let (output, other) = if order(a) > order(b) { (a, b) } else { (b, a) };
    Error::Aliasing { output, other }
}

#[test]
fn overlaps_are_refused() -> Result<()> {
    for call in calls(|problem| problem)?.into_iter().chain(calls(|problem| problem.inner(3).row_stride(20))?)
    {
        let arguments: Vec<Argument> = call.places.keys().copied().collect();
        for &output in outputs(call.pass).iter().filter(|output| call.places.contains_key(output)) {
            for &other in arguments.iter().filter(|other| **other != output) {
                let (mine, theirs) = (call.places[&output], call.places[&other]);
                let last = theirs.bytes() as isize - 4;
                // Both begin at the same byte; one value later; at the other's last four bytes; the other way round.
                for offset in [0, 4, last, 4 - mine.bytes() as isize] {
                    let allowed = offset == 0 && partner(output) == Some(other);
                    if allowed || offset >= theirs.bytes() as isize {
                        continue;
                    }
                    let error = call.clone().onto(output, other, offset).refusal();
                    assert_eq!(error, clash(call.pass, output, other), "{output} on {other} + {offset}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn shifted_by_one_element_is_not_in_place() -> Result<()> {
    for call in calls(|problem| problem)? {
        let (output, input) = match call.pass {
            Pass::Forward => (Argument::Y, Argument::X),
            Pass::Backward => (Argument::Dx, Argument::Dy),
        };
        let size = call.problem.dtype().size() as isize;
        for offset in [size, -size, 6 * size, -6 * size] {
            let error = call.clone().onto(output, input, offset).refusal();
            assert_eq!(error, Error::Aliasing { output, other: input });
        }
        let apart = call.problem.span() as isize * size;
        for offset in [apart, -apart] {
            call.clone().onto(output, input, offset).accepted();
        }
    }
    Ok(())
}

#[test]
fn in_place_gives_the_same() -> Result<()> {
    let changes: [fn(ProblemBuilder) -> ProblemBuilder; 4] =
        [|p| p, |p| p.row_stride(9), |p| p.inner(5), |p| p.inner(5).row_stride(31)];
    for change in changes {
        for call in calls(change)? {
            let (output, input) = match call.pass {
                Pass::Forward => (Argument::Y, Argument::X),
                Pass::Backward => (Argument::Dx, Argument::Dy),
            };
            let same_pointer = call.clone().onto(output, input, 0).accepted();
            let absent = call.clone().without(input).accepted();
            for ((apart, same), absent) in call.accepted().iter().zip(&same_pointer).zip(&absent) {
                for &output in outputs(call.pass).iter().filter(|o| **o != Argument::Workspace) {
                    if apart.places.contains_key(&output) {
                        assert_eq!(apart.bytes(output), same.bytes(output), "{:?} {output}", call.problem);
                        assert_eq!(apart.bytes(output), absent.bytes(output), "{:?} {output}", call.problem);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn columns_of_one_buffer_may_interleave() -> Result<()> {
    for call in calls(|problem| problem.row_stride(13))? {
        let size = call.problem.dtype().size() as isize;
        let pairs: &[(Argument, Argument)] = match call.pass {
            Pass::Forward => &[(Argument::Y, Argument::X)],
            Pass::Backward => &[(Argument::Dx, Argument::Dy), (Argument::Dx, Argument::X)],
        };
        for &(output, input) in pairs {
            // Rows of 6 every 13: the other's may begin behind 6 or 7 elements, also some rows before or after.
            for offset in [6, 7, -6, -7, 13 + 6, 13 + 7, -13 - 6, 2 * 13 + 7] {
                call.clone().onto(output, input, offset * size).accepted();
            }
            for offset in [5, 8, -5, -8, 13, -13, 13 + 5, 1, 12] {
                let error = call.clone().onto(output, input, offset * size).refusal();
                assert_eq!(error, Error::Aliasing { output, other: input }, "{offset}");
            }
        }
    }
    Ok(())
}

#[test]
fn inputs_may_share_memory() -> Result<()> {
    for call in calls(|problem| problem)? {
        if call.pass == Pass::Backward {
            call.clone().onto(Argument::Dy, Argument::X, 0).accepted();
        } else {
            call.clone().onto(Argument::Beta, Argument::Gamma, 0).accepted();
        }
    }
    Ok(())
}

#[test]
fn a_workspace_that_is_not_used_shares_nothing() -> Result<()> {
    for builder in common::problems(0, 6) {
        let call = Call::new(builder.build()?, Pass::Backward);
        assert_eq!(call.places[&Argument::Workspace].bytes(), 0);
        call.onto(Argument::Workspace, Argument::Gamma, 4).accepted();
    }
    Ok(())
}
