//! A residual has the bits of an addition followed by the op, and dsum those of the op followed by an addition: on every
//! level, in every in-place form, wherever buffers begin.
#![cfg(not(miri))]

mod common;

use common::residual::{FORMS, Over, added, wide};
use common::{Gradients, Inputs, Random, Tensor, Wanted, devices, problems, quick};
use dyt::{Backward, DType, Device, Dsum, Forward, Pass, Problem, ProblemBuilder, Residual, Result, Storage};

/// The elements of the rows, without the gaps between them.
fn rows<'a>(problem: &Problem, tensor: &'a Tensor) -> Vec<&'a [u8]> {
    let (stride, len) = (problem.row_stride(), problem.row_len());
    (0..problem.rows()).map(|row| tensor.bits_of(row * stride, len)).collect()
}

/// What a forward writes.
struct Outputs {
    y: Tensor,
    sum: Tensor,
    statistics: [Vec<f32>; 2],
}

fn statistics<'a>(
    problem: &Problem,
    [mean, rstd]: &'a mut [Vec<f32>; 2],
    mut call: Forward<'a>,
) -> Forward<'a> {
    call.mean = problem.op().has_mean().then(|| mean.as_mut_slice().into());
    call.rstd = (!problem.op().is_pointwise()).then(|| rstd.as_mut_slice().into());
    call
}

/// The op of the sum, in two steps.
fn in_two_steps(device: &Device, problem: &Problem, inputs: &Inputs, residual: &Tensor) -> Result<Outputs> {
    let sum = added(problem.dtype(), inputs.x.bits(), residual.bits());
    let mut y = Tensor::zeros(problem.dtype(), problem.span(), 0);
    let mut saved = [(); 2].map(|()| vec![0.0; problem.statistics()]);
    let call = inputs.forward(problem, Forward::new(sum.view(), y.view_mut()));
    device.forward(problem, statistics(problem, &mut saved, call))?;
    Ok(Outputs { y, sum, statistics: saved })
}

fn fused(
    device: &Device,
    problem: &Problem,
    inputs: &Inputs,
    residual: &Tensor,
    (over_y, over_sum): (Option<Over>, Option<Over>),
    [y_at, sum_at]: [usize; 2],
) -> Result<Outputs> {
    let held = |over: Option<Over>, offset| match over {
        None => Tensor::zeros(problem.dtype(), problem.span(), offset),
        Some(Over::X) => inputs.x.moved(offset),
        Some(Over::Residual) => residual.moved(offset),
    };
    let (mut y, mut sum) = (held(over_y, y_at), held(over_sum, sum_at));
    let mut saved = [(); 2].map(|()| vec![0.0; problem.statistics()]);
    // Of the two terms, which may change places, y's is called x and that of sum the residual.
    let swapped = over_y == Some(Over::Residual) || over_sum == Some(Over::X);
    let (x, other) = if swapped { (residual, &inputs.x) } else { (&inputs.x, residual) };
    let mut call = match over_y {
        None => Forward::new(x.view(), y.view_mut()),
        Some(_) => Forward::in_place(y.view_mut()),
    };
    call.residual = Some(match over_sum {
        None => Residual::Apart(other.view()),
        Some(_) => Residual::InSum,
    });
    let call = inputs.forward(problem, call.sum(sum.view_mut()));
    device.forward(problem, statistics(problem, &mut saved, call))?;
    Ok(Outputs { y, sum, statistics: saved })
}

fn same(
    problem: &Problem,
    inputs: &Inputs,
    residual: &Tensor,
    offsets: [usize; 4],
    what: &str,
) -> Result<()> {
    let moved = inputs.moved([offsets[0], 0, offsets[1] % 3, 1]);
    let other = residual.moved(offsets[1]);
    for device in devices() {
        let expected = in_two_steps(&device, problem, inputs, residual)?;
        for form in FORMS {
            let got = fused(&device, problem, &moved, &other, form, [offsets[2], offsets[3]])?;
            let name = format!("{} {problem:?} {what} {offsets:?} {form:?}", device.name());
            assert!(rows(problem, &got.sum) == rows(problem, &expected.sum), "{name}: sum");
            assert!(rows(problem, &got.y) == rows(problem, &expected.y), "{name}: y");
            assert_eq!(got.statistics, expected.statistics, "{name}");
        }
    }
    Ok(())
}

/// Values that go the usual way, and those that are done in f64: a large alpha, and rows whose squares f32 cannot hold.
fn check(builder: ProblemBuilder, storage: Storage, offsets: [usize; 4]) -> Result<()> {
    let problem = builder.storage(storage).build()?;
    let mut inputs = Inputs::new(&problem, 3);
    let residual = Inputs::new(&problem, 4).x;
    same(&problem, &inputs, &residual, offsets, "usual")?;
    inputs.alpha = 1e20;
    let far: Vec<f32> = Random::new(5).values(problem.span()).iter().map(|x| x * 1e30).collect();
    if problem.dtype() != DType::F16 {
        inputs.x = Tensor::new(problem.dtype(), &far, 0);
    }
    same(&problem, &inputs, &residual, offsets, "far")
}

/// Rows, columns, positions and the gap behind a row: ragged vectors and whole ones, a row alone, several blocks,
/// channels-first.
const SHAPES: [(usize, usize, usize, usize); 11] = [
    (5, 1, 1, 0),
    (3, 100, 1, 0),
    (19, 67, 1, 5),
    (9, 512, 1, 0),
    (7, 1023, 1, 1),
    (1, 5003, 1, 0),
    (18, 2049, 1, 0),
    (3, 4101, 1, 3),
    (5, 37, 70, 0),
    (3, 19, 5, 2),
    (2, 3, 1500, 0),
];

#[test]
fn a_residual_is_an_addition_before_the_op() -> Result<()> {
    let offsets = [[0; 4], [1, 3, 2, 5], [0, 4, 16, 1], [8, 0, 0, 33]];
    for (i, (rows, cols, inner, gap)) in SHAPES.into_iter().enumerate() {
        for (k, builder) in problems(rows, cols).into_iter().enumerate() {
            let builder = builder.inner(inner).row_stride(cols * inner + gap);
            for (j, storage) in Storage::ALL.into_iter().enumerate() {
                check(builder, storage, offsets[(i + j + k) % offsets.len()])?;
            }
        }
    }
    Ok(())
}

/// Tensors larger than the caches, which are written past them: rows that line up with cache lines and others, rows that
/// fit a stage and longer ones.
#[test]
fn and_so_it_is_past_the_caches() -> Result<()> {
    if quick() {
        return Ok(());
    }
    let shapes = [(2100, 1024, 1), (2100, 1000, 1), (700, 3001, 1), (300, 8192, 1), (8, 70, 3700)];
    for (rows, cols, inner) in shapes {
        for builder in problems(rows, cols).into_iter().map(|builder| builder.inner(inner)) {
            for storage in [Storage::ALL[0], Storage::ALL[Storage::ALL.len() - 1]] {
                let problem = builder.storage(storage).build()?;
                let (inputs, residual) = (Inputs::new(&problem, 3), Inputs::new(&problem, 4).x);
                for offsets in [[0; 4], [0, 1, 3, 2]] {
                    same(&problem, &inputs, &residual, offsets, "large")?;
                }
            }
        }
    }
    Ok(())
}

/// The gradients of a backward with dsum; dx takes the place of dsum or of dy, or of neither.
fn joined(
    device: &Device,
    problem: &Problem,
    inputs: &Inputs,
    dsum: &Tensor,
    (over_dsum, over_dy): (bool, bool),
    offset: usize,
) -> Result<Gradients> {
    let mut gradients = Gradients::new(problem, offset);
    if over_dsum || over_dy {
        gradients.dx = if over_dsum { dsum.moved(offset) } else { inputs.dy.moved(offset) };
    }
    let Gradients { dx, dalpha, dshift, dgamma, dbeta } = &mut gradients;
    let mut call = inputs.backward(problem, Backward::of(inputs.x.view()).dy(inputs.dy.view()));
    if over_dy {
        call.dy = None;
    }
    call.dsum = Some(if over_dsum { Dsum::InDx } else { Dsum::Apart(dsum.view()) });
    let mut call = call.dx(dx.view_mut()).dgamma(dgamma.view_mut()).dbeta(dbeta.view_mut());
    call.dalpha = problem.op().is_pointwise().then(|| dalpha.into());
    call.dshift = problem.op().has_shift().then(|| dshift.into());
    let mut workspace = vec![f32::NAN; device.workspace_bytes(problem, Pass::Backward).div_ceil(4)];
    device.backward_with(problem, call, &mut workspace)?;
    Ok(gradients)
}

fn joins(builder: ProblemBuilder, storage: Storage, far: bool, offset: usize) -> Result<()> {
    let problem = builder.storage(storage).build()?;
    let dtype = problem.dtype();
    let mut inputs = Inputs::new(&problem, 3);
    if far {
        inputs.alpha = 1e20;
    }
    let dsum = Inputs::new(&problem, 4).x;
    let wanted = Wanted::all(&problem);
    for device in devices() {
        let name = format!("{} {problem:?}", device.name());
        let alone = Gradients::new(&problem, 0).run(&device, &problem, &inputs, wanted, false)?;
        let first = joined(&device, &problem, &inputs, &dsum, (false, false), offset)?;
        let (dx, added) = (rows(&problem, &first.dx), added(dtype, alone.dx.bits(), dsum.bits()));
        if dtype == DType::F32 {
            assert!(dx == rows(&problem, &added), "{name}: dx is rounded once, by the addition");
        } else {
            // Two steps round dx before the addition, by half an ulp of it, and what is added once more.
            let ulp = if dtype == DType::F16 { 2.0_f32.powi(-10) } else { 2.0_f32.powi(-7) };
            let all = [&alone.dx, &added, &first.dx].map(|tensor| wide(dtype, tensor.bits()));
            for dyt::reference::Place { at, .. } in dyt::reference::places(&problem) {
                let [dx, two, once] = all.each_ref().map(|values| values[at]);
                let near = (two - once).abs() <= ulp * (dx.abs() + two.abs()) || two == once;
                assert!(near || dx.is_infinite(), "{name}: dx[{at}] is {once}, in two steps {two}");
            }
        }
        let apart = Wanted { dx: false, ..wanted };
        assert!(first.same(&alone, apart), "{name}: dsum changes no gradient of a parameter");
        for form in [(true, false), (false, true)] {
            let again = joined(&device, &problem, &inputs, &dsum, form, offset)?;
            assert!(dx == rows(&problem, &again.dx) && first.same(&again, apart), "{name}: {form:?}");
        }
    }
    Ok(())
}

#[test]
fn dsum_is_an_addition_behind_the_op() -> Result<()> {
    for (i, (rows, cols, inner, gap)) in SHAPES.into_iter().enumerate() {
        for builder in problems(rows, cols) {
            let builder = builder.inner(inner).row_stride(cols * inner + gap);
            for storage in Storage::ALL {
                joins(builder, storage, false, [0, 1, 5][i % 3])?;
                joins(builder, storage, true, 0)?;
            }
        }
    }
    Ok(())
}

#[test]
fn and_so_it_is_for_a_dx_past_the_caches() -> Result<()> {
    if quick() {
        return Ok(());
    }
    for (rows, cols) in [(2100, 1024), (2100, 1000), (700, 3001)] {
        for builder in problems(rows, cols) {
            for storage in [Storage::ALL[0], Storage::ALL[Storage::ALL.len() - 1]] {
                joins(builder, storage, false, 0)?;
                joins(builder, storage, false, 3)?;
            }
        }
    }
    Ok(())
}
