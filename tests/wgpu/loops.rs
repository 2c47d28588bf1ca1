//! Rows and chunks so long that a driver which counts the steps of loops would leave some of them out: such a call is
//! complete or refused. Mesa's llvmpipe skips what a lane has left after 65,535 steps of all its loops together.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::Features;
use dyt::{Backward, Device, Error, Forward, Op, Pass, Problem, Refusal};

use crate::support::{Outcome, activations, adapters, open};

/// What a call came to, with how many of its results are farther from the CPU's than rounding takes them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Came {
    Refused,
    Complete,
    Wrong(usize),
}

/// What one device makes of a forward, or of a backward with every gradient: y, or dx, dgamma, dbeta and dalpha. x is
/// `factor` times what it usually is.
fn results(target: &Device, problem: &Problem, pass: Pass, factor: f32) -> dyt::Result<Vec<Vec<f32>>> {
    let pointwise = problem.op().is_pointwise();
    let (span, cols) = (problem.span(), problem.cols());
    let upload = |values: &[f32]| target.upload(values);
    let x: Vec<_> = activations(span, 1).into_iter().map(|x| x * factor).collect();
    let (x, alpha) = (upload(&x)?, upload(&[0.7])?);
    let gamma = upload(&activations(cols, 3))?;
    // What is left as it is shows: no result is as large.
    let mut outputs = match pass {
        Pass::Forward => vec![upload(&vec![1e30; span])?],
        Pass::Backward => {
            [span, cols, cols, 1].map(|len| upload(&vec![1e30; len])).into_iter().collect::<Result<_, _>>()?
        }
    };
    match (pass, &mut outputs[..]) {
        (Pass::Forward, [y]) => {
            let forward = Forward::new(&x, y).gamma(&gamma);
            target.forward(problem, if pointwise { forward.alpha(&alpha) } else { forward })?;
        }
        (_, [dx, dgamma, dbeta, dalpha]) => {
            let dy = upload(&activations(span, 2))?;
            let backward = Backward::of(&x).dy(&dy).gamma(&gamma).dx(dx).dgamma(dgamma).dbeta(dbeta);
            let backward = if pointwise { backward.alpha(&alpha).dalpha(dalpha) } else { backward };
            target.backward(problem, backward)?;
            if !pointwise {
                outputs.pop();
            }
        }
        _ => unreachable!("a forward has one output, a backward four"),
    }
    let read = |buffer: &dyt::Buffer| {
        let mut host = vec![0.0_f32; buffer.len()];
        target.read(buffer, &mut host).map(|()| host)
    };
    outputs.iter().map(read).collect()
}

/// Runs a pass on a device and compares it with the CPU. Sums of as many terms differ by more than single results do.
fn came(target: &Device, problem: &Problem, pass: Pass, factor: f32) -> dyt::Result<Came> {
    let found = match results(target, problem, pass, factor) {
        Ok(found) => found,
        Err(Error::BackendUnavailable { reason: Refusal::LoopSteps { needed, limit }, .. }) => {
            assert!(needed > limit, "{needed} {limit}");
            return Ok(Came::Refused);
        }
        Err(error) => return Err(error),
    };
    let expected = results(&Device::open("cpu")?, problem, pass, factor)?;
    let far = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let largest = b.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        // NaN is not near anything.
        let near = |(a, b): &(&f32, &f32)| (*a - *b).abs() <= 1e-3 * largest;
        a.iter().zip(b).filter(|pair| !near(pair)).count()
    };
    Ok(match found.iter().zip(&expected).map(far).sum() {
        0 => Came::Complete,
        wrong => Came::Wrong(wrong),
    })
}

/// Runs passes where steps of loops are counted; `may_refuse` says whether a row may be too long.
fn check(problem: &Problem, passes: &[Pass], may_refuse: bool) -> Outcome {
    for adapter in adapters().iter().filter(|adapter| adapter.get_info().driver == "llvmpipe") {
        let (device, queue) = open(adapter, Features::empty(), adapter.limits())?;
        let target = Device::from_wgpu(&WgpuKernels::new(&device, &queue)?);
        for &pass in passes {
            // By the other factor all squares overflow, and the norms take such rows a second time.
            for factor in [1.0, 1e25] {
                let came = came(&target, problem, pass, factor)?;
                let allowed = came == Came::Complete || (came == Came::Refused && may_refuse);
                assert!(allowed, "{pass:?} {problem:?}, {factor:e} times: {came:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn norms_of_long_rows_of_elements_are_complete_or_refused() -> Outcome {
    for op in [Op::LayerNorm, Op::RmsNorm] {
        for cols in [300_001, 1_800_001] {
            check(&Problem::new(op, 1, cols).build()?, &Pass::ALL, cols > 300_001)?;
        }
    }
    Ok(())
}

#[test]
fn norms_of_long_rows_of_vectors_are_complete_or_refused() -> Outcome {
    for cols in [1_000_000, 8_000_000] {
        check(&Problem::new(Op::LayerNorm, 1, cols).build()?, &Pass::ALL, cols > 1_000_000)?;
    }
    Ok(())
}

#[test]
fn norms_of_many_channels_are_complete_or_refused() -> Outcome {
    for cols in [8_192, 500_000] {
        check(&Problem::new(Op::LayerNorm, 1, cols).inner(3).build()?, &Pass::ALL, cols > 8_192)?;
    }
    Ok(())
}

#[test]
fn a_column_of_many_partial_sums_is_folded_whole_or_refused() -> Outcome {
    // One channel of many positions has a partial sum of dgamma in each slab of 256.
    let problem = Problem::new(Op::Dyt, 1, 1).inner(18_000_001).build()?;
    check(&problem, &[Pass::Backward], true)
}
