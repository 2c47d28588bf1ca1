//! Arguments of a call that do not fit its problem: each is refused by name, and nothing has been written.

mod common;

use common::arena::{ARGUMENTS, Call, takes};
use dyt::{Argument, DType, Error, Op, Pass, Problem, Result};

/// Calls of every op, pass and pair of dtypes, contiguous and strided, channels-last and channels-first.
fn calls() -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for builder in common::problems(3, 5) {
        for (dtype, param) in [(DType::F32, DType::F32), (DType::F16, DType::F16), (DType::Bf16, DType::F32)]
        {
            let builder = builder.dtype(dtype).param_dtype(param);
            for problem in [builder, builder.row_stride(8), builder.inner(4), builder.inner(4).row_stride(21)]
            {
                for pass in Pass::ALL {
                    calls.push(Call::new(problem.build()?, pass));
                }
            }
        }
    }
    Ok(calls)
}

fn is_tensor(argument: Argument) -> bool {
    matches!(argument, Argument::X | Argument::Y | Argument::Dy | Argument::Dx)
}

#[test]
fn what_is_right_is_accepted() -> Result<()> {
    for call in calls()? {
        call.accepted();
    }
    Ok(())
}

#[test]
fn wrong_length() -> Result<()> {
    for call in calls()? {
        for (&argument, place) in call.places.iter().filter(|(argument, _)| **argument != Argument::Workspace)
        {
            let expected = place.len;
            let longest =
                if is_tensor(argument) { call.problem.rows() * call.problem.row_stride() } else { expected };
            for actual in [expected - 1, longest + 1, 0, 2 * longest + 1] {
                let error = call.clone().with(argument, |place| place.len = actual).refusal();
                assert_eq!(error, Error::WrongLength { argument, expected, actual });
            }
            call.clone().with(argument, |place| place.len = longest).accepted();
        }
    }
    Ok(())
}

#[test]
fn wrong_dtype() -> Result<()> {
    for call in calls()? {
        for (&argument, place) in call.places.iter().filter(|(argument, _)| **argument != Argument::Workspace)
        {
            let expected = place.dtype;
            for actual in DType::ALL.into_iter().filter(|dtype| *dtype != expected) {
                let error = call.clone().with(argument, |place| place.dtype = actual).refusal();
                assert_eq!(error, Error::WrongDtype { argument, expected, actual });
            }
        }
    }
    Ok(())
}

#[test]
fn misaligned() -> Result<()> {
    for call in calls()? {
        for (&argument, place) in &call.places {
            let alignment = place.dtype.size();
            for offset in 1..alignment {
                let error = call.clone().with(argument, |place| place.at += offset).refusal();
                assert_eq!(error, Error::Misaligned { argument, alignment });
            }
            call.clone().with(argument, |place| place.at += alignment).accepted();
        }
    }
    Ok(())
}

#[test]
fn missing_argument() -> Result<()> {
    for call in calls()? {
        let op = call.problem.op();
        for argument in [Argument::Alpha, Argument::Shift] {
            if takes(op, call.pass, argument) {
                let error = call.clone().without(argument).refusal();
                assert_eq!(error, Error::MissingArgument { op, argument });
            }
        }
        if call.pass == Pass::Backward {
            let error = call.without(Argument::Dx).without(Argument::Dy).refusal();
            assert_eq!(error, Error::MissingArgument { op, argument: Argument::Dy });
        }
    }
    Ok(())
}

#[test]
fn what_may_be_absent() -> Result<()> {
    let optional: Vec<Argument> = ARGUMENTS
        .into_iter()
        .filter(|argument| {
            !matches!(
                argument,
                Argument::Alpha | Argument::Shift | Argument::Y | Argument::Workspace | Argument::Gamma
            )
        })
        .collect();
    for call in calls()? {
        for &argument in optional.iter().filter(|argument| call.places.contains_key(argument)) {
            if call.pass == Pass::Backward && argument == Argument::X {
                continue;
            }
            call.clone().without(argument).accepted();
        }
        call.without(Argument::Gamma).without(Argument::Dgamma).accepted();
    }
    Ok(())
}

#[test]
fn unexpected_argument() -> Result<()> {
    for call in calls()? {
        let op = call.problem.op();
        let settable: &[Argument] = match call.pass {
            Pass::Forward => &[Argument::Alpha, Argument::Shift, Argument::Mean, Argument::Rstd],
            Pass::Backward => &[
                Argument::Alpha,
                Argument::Shift,
                Argument::Mean,
                Argument::Rstd,
                Argument::Dalpha,
                Argument::Dshift,
            ],
        };
        for &argument in settable.iter().filter(|argument| !takes(op, call.pass, **argument)) {
            let mut call = call.clone();
            call.add(argument);
            assert_eq!(call.refusal(), Error::UnexpectedArgument { op, argument });
        }
    }
    Ok(())
}

#[test]
fn missing_gamma() -> Result<()> {
    for call in calls()?.into_iter().filter(|call| call.pass == Pass::Backward) {
        assert_eq!(call.without(Argument::Gamma).refusal(), Error::MissingGamma);
    }
    Ok(())
}

#[test]
fn workspace_too_small() -> Result<()> {
    for call in calls()?.into_iter().filter(|call| call.pass == Pass::Backward) {
        let needed = call.places[&Argument::Workspace].bytes();
        for len in [0, needed / 4 - 1] {
            let error = call.clone().with(Argument::Workspace, |place| place.len = len).refusal();
            assert_eq!(error, Error::WorkspaceTooSmall { needed, actual: 4 * len });
        }
        let halves = |len| {
            call.clone().with(Argument::Workspace, |place| {
                (place.dtype, place.len) = (DType::Bf16, len);
            })
        };
        let error = halves(needed / 2 - 1).refusal();
        assert_eq!(error, Error::WorkspaceTooSmall { needed, actual: needed - 2 });
        halves(needed / 2).accepted();
        let error = halves(needed / 2).with(Argument::Workspace, |place| place.at += 2).refusal();
        assert_eq!(error, Error::Misaligned { argument: Argument::Workspace, alignment: 4 });
    }
    Ok(())
}

#[test]
fn without_rows_parameter_gradients_are_zero() -> Result<()> {
    for builder in common::problems(0, 5) {
        for dtype in DType::ALL {
            for inner in [1, 3] {
                let problem = builder.dtype(dtype).inner(inner).build()?;
                Call::new(problem, Pass::Forward).accepted();
                for call in Call::new(problem, Pass::Backward).accepted() {
                    for gradient in [Argument::Dalpha, Argument::Dshift, Argument::Dgamma, Argument::Dbeta] {
                        if call.places.contains_key(&gradient) {
                            assert!(
                                call.bytes(gradient).iter().all(|byte| *byte == 0),
                                "{problem:?} {gradient}"
                            );
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn lengths_of_a_problem_with_one_element() -> Result<()> {
    let problem = Problem::new(Op::LayerNorm, 1, 1).build()?;
    let call = Call::new(problem, Pass::Forward);
    call.accepted();
    let error = call.with(Argument::Mean, |place| place.len = 0).refusal();
    assert_eq!(error, Error::WrongLength { argument: Argument::Mean, expected: 1, actual: 0 });
    Ok(())
}
