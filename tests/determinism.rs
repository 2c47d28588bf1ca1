//! The same bits: from run to run, for any number of threads, wherever the buffers lie, whatever else is asked for.

mod common;

use common::{Gradients, Inputs, Tensor, Wanted, backward, forward, forward_in_place, problems, quick};
use dyt::{DType, Device, Forward, Problem, ProblemBuilder, Result};

/// Every op and dtype in shapes that are cut for several threads: few long rows, many short ones, rows of a larger
/// buffer, channels-first. Emulated, one shape of each layout is enough.
fn large() -> Result<Vec<Problem>> {
    let last = |rows, cols| problems(rows, cols);
    let strided = |rows, cols, stride| change(problems(rows, cols), |p| p.row_stride(stride));
    let first = |rows, cols, inner| change(problems(rows, cols), |p| p.inner(inner));
    let shapes = if quick() {
        vec![strided(257, 513, 600), first(3, 40, 1100)]
    } else {
        vec![
            last(3, 50_021),
            last(20_011, 7),
            last(300, 512),
            // Parts of a row that is alone go side by side; four rows go together.
            last(17, 8230),
            strided(257, 600, 641),
            first(2, 33, 2500),
            change(first(5, 40, 700), |p| p.row_stride(28_007)),
        ]
    };
    with_dtypes(shapes.into_iter().flatten())
}

/// Small shapes with ragged ends, in every layout.
fn small() -> Result<Vec<Problem>> {
    let shapes = [(5, 1), (4, 3), (19, 17), (7, 64), (3, 1023)].map(|(rows, cols)| problems(rows, cols));
    let first = [(2, 5, 3), (3, 4, 67)].map(|(n, c, s)| change(problems(n, c), |p| p.inner(s)));
    let strided = change(problems(6, 35), |p| p.row_stride(37));
    with_dtypes(shapes.into_iter().chain(first).chain([strided]).flatten())
}

fn change(
    problems: Vec<ProblemBuilder>,
    change: impl Fn(ProblemBuilder) -> ProblemBuilder,
) -> Vec<ProblemBuilder> {
    problems.into_iter().map(change).collect()
}

/// Each problem in each dtype; of the 16-bit types one has f32 parameters.
fn with_dtypes(problems: impl Iterator<Item = ProblemBuilder>) -> Result<Vec<Problem>> {
    let typed = |problem: ProblemBuilder| {
        [
            problem.build(),
            problem.dtype(DType::F16).build(),
            problem.dtype(DType::Bf16).param_dtype(DType::F32).build(),
        ]
    };
    problems.flat_map(typed).collect()
}

/// The same problem, with gradients of parameters added to what is there.
fn accumulating(problem: &Problem) -> Result<Problem> {
    Problem::new(problem.op(), problem.rows(), problem.cols())
        .std(problem.std())
        .dtype(problem.dtype())
        .param_dtype(problem.param_dtype())
        .inner(problem.inner())
        .row_stride(problem.row_stride())
        .accumulate(true)
        .build()
}

/// Fails unless the two runs of a device agree bit for bit.
#[track_caller]
fn same(device: &Device, problem: &Problem, what: &str, a: &Tensor, b: &Tensor) {
    assert!(a.bits() == b.bits(), "{} {problem:?}: {what}", device.name());
}

#[cfg(feature = "rayon")]
#[test]
fn threads_do_not_matter() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pools = [pool(1)?, pool(1)?, pool(2)?, pool(3)?, pool(8)?, pool(8)?];
    for problem in large()? {
        assert!(problem.elements() > 131_072, "{problem:?} would run on one thread");
        let inputs = Inputs::new(&problem, 11);
        let accumulating = accumulating(&problem)?;
        for device in common::devices() {
            let run = || -> Result<_> {
                let y = forward(&device, &problem, &inputs, 0)?;
                Ok((y, backward(&device, &problem, &inputs)?, backward(&device, &accumulating, &inputs)?))
            };
            let first = pools[0].install(run)?;
            for pool in &pools[1..] {
                let other = pool.install(run)?;
                let what = format!("{} threads", pool.current_num_threads());
                same(&device, &problem, &what, &first.0, &other.0);
                let wanted = Wanted::all(&problem);
                assert!(first.1.same(&other.1, wanted), "{} {problem:?} backward: {what}", device.name());
                assert!(first.2.same(&other.2, wanted), "{} {problem:?} accumulate: {what}", device.name());
            }
        }
    }
    Ok(())
}

#[test]
fn runs_do_not_matter() -> Result<()> {
    for problem in small()?.into_iter().chain(large()?.into_iter().step_by(3)) {
        let inputs = Inputs::new(&problem, 12);
        for device in common::devices() {
            let (a, b) = (forward(&device, &problem, &inputs, 0)?, forward(&device, &problem, &inputs, 0)?);
            same(&device, &problem, "another run", &a, &b);
            let (a, b) = (backward(&device, &problem, &inputs)?, backward(&device, &problem, &inputs)?);
            assert!(a.same(&b, Wanted::all(&problem)), "{} {problem:?}", device.name());
        }
    }
    Ok(())
}

/// Accumulation is one more f32 addition to what a plain call writes.
#[test]
fn accumulate_adds_once() -> Result<()> {
    for problem in small()? {
        let inputs = Inputs::new(&problem, 13);
        let (wanted, added) = (Wanted::all(&problem), accumulating(&problem)?);
        for device in common::devices() {
            let mut expected = backward(&device, &problem, &inputs)?;
            let got = backward(&device, &added, &inputs)?;
            let held = Gradients::new(&problem, 0);
            expected.dalpha += held.dalpha;
            expected.dshift += held.dshift;
            for (sum, held) in [(&mut expected.dgamma, held.dgamma), (&mut expected.dbeta, held.dbeta)] {
                let pairs = sum.f32s().into_iter().zip(held.f32s());
                *sum = Tensor::new(DType::F32, &pairs.map(|(a, b)| a + b).collect::<Vec<_>>(), 0);
            }
            assert!(got.same(&expected, wanted), "{} {problem:?}", device.name());
        }
    }
    Ok(())
}

/// The same problem with other rows.
fn with_rows(problem: &Problem, rows: usize) -> Result<Problem> {
    Problem::new(problem.op(), rows, problem.cols())
        .std(problem.std())
        .dtype(problem.dtype())
        .param_dtype(problem.param_dtype())
        .inner(problem.inner())
        .build()
}

#[test]
fn a_row_alone_gives_what_it_gives_among_others() -> Result<()> {
    for problem in small()?.into_iter().chain(large()?) {
        let inputs = Inputs::new(&problem, 14);
        let alone = with_rows(&problem, 1)?;
        let (stride, len, rows) = (problem.row_stride(), problem.row_len(), problem.rows());
        for device in common::devices() {
            let y = forward(&device, &problem, &inputs, 0)?;
            for row in (0..rows).step_by(rows.div_ceil(9)).chain([rows - 1]) {
                let inputs = Inputs {
                    x: inputs.x.part(row * stride, len, row % 5),
                    dy: Tensor::zeros(problem.dtype(), 0, 0),
                    ..inputs.moved([0, 0, row % 3, 1])
                };
                let one = forward(&device, &alone, &inputs, row % 7)?;
                let name = device.name();
                assert!(one.bits() == y.bits_of(row * stride, len), "{name} {problem:?}: row {row} alone");
            }
        }
    }
    Ok(())
}

/// Positions of channels-first data are rows of their own: in another order they give the same.
#[test]
fn the_order_of_positions_does_not_matter() -> Result<()> {
    let shapes =
        [(2, 5, 3), (1, 4, 67), (3, 33, 130)].map(|(n, c, s)| change(problems(n, c), |p| p.inner(s)));
    for problem in with_dtypes(shapes.into_iter().flatten())? {
        let (inputs, inner) = (Inputs::new(&problem, 15), problem.inner());
        let turn = |tensor: &Tensor| {
            let mut turned = Tensor::zeros(problem.dtype(), tensor.len(), 0);
            for at in 0..tensor.len() {
                let run = at / inner * inner;
                turned.set(run + inner - 1 - (at - run), tensor.bits_of(at, 1));
            }
            turned
        };
        let turned = Inputs { x: turn(&inputs.x), ..inputs.moved([0; 4]) };
        for device in common::devices() {
            let (y, other) =
                (forward(&device, &problem, &inputs, 0)?, forward(&device, &problem, &turned, 0)?);
            same(&device, &problem, "positions the other way round", &turn(&y), &other);
        }
    }
    Ok(())
}

#[test]
fn in_place_gives_the_same() -> Result<()> {
    for problem in small()?.into_iter().chain(large()?) {
        in_place_gives_the_same_for(&problem)?;
    }
    Ok(())
}

fn in_place_gives_the_same_for(problem: &Problem) -> Result<()> {
    let (inputs, wanted) = (Inputs::new(problem, 16), Wanted::all(problem));
    let (stride, len) = (problem.row_stride(), problem.row_len());
    for device in common::devices() {
        let (y, over) =
            (forward(&device, problem, &inputs, 0)?, forward_in_place(&device, problem, &inputs)?);
        let apart = backward(&device, problem, &inputs)?;
        let mut same = Gradients::new(problem, 0).run(&device, problem, &inputs, wanted, true)?;
        // In place, what lies between rows is x or dy, and 0 otherwise.
        for row in 0..problem.rows() {
            let of = |tensor: &Tensor| tensor.bits_of(row * stride, len).to_vec();
            assert!(of(&y) == of(&over), "{} {problem:?}: y, row {row}", device.name());
            assert!(of(&apart.dx) == of(&same.dx), "{} {problem:?}: dx, row {row}", device.name());
        }
        same.dx = apart.dx.moved(0);
        assert!(apart.same(&same, wanted), "{} {problem:?}: gradients of parameters", device.name());
    }
    Ok(())
}

#[test]
fn places_in_memory_do_not_matter() -> Result<()> {
    for problem in small()?.into_iter().chain(large()?.into_iter().step_by(2)) {
        let (inputs, wanted) = (Inputs::new(&problem, 17), Wanted::all(&problem));
        for device in common::devices() {
            let y = forward(&device, &problem, &inputs, 0)?;
            let gradients = backward(&device, &problem, &inputs)?;
            for (moved, offset) in
                [([1, 0, 0, 0], 0), ([0, 1, 1, 1], 1), ([1, 1, 3, 5], 1), ([7, 3, 2, 9], 5)]
            {
                let inputs = inputs.moved(moved);
                let other = forward(&device, &problem, &inputs, offset)?;
                same(&device, &problem, "at another place", &y, &other);
                let other =
                    Gradients::new(&problem, offset).run(&device, &problem, &inputs, wanted, false)?;
                assert!(gradients.same(&other, wanted), "{} {problem:?} {moved:?}", device.name());
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_not_asked_for_do_not_matter() -> Result<()> {
    for problem in small()?.into_iter().chain(large()?.into_iter().step_by(4)) {
        let (inputs, all) = (Inputs::new(&problem, 18), Wanted::all(&problem));
        for device in common::devices() {
            let expected = backward(&device, &problem, &inputs)?;
            for bits in 1..32 {
                let wanted = Wanted {
                    dx: bits & 1 != 0,
                    dalpha: all.dalpha && bits & 2 != 0,
                    dshift: all.dshift && bits & 4 != 0,
                    dgamma: bits & 8 != 0,
                    dbeta: bits & 16 != 0,
                };
                let got = Gradients::new(&problem, 0).run(&device, &problem, &inputs, wanted, false)?;
                assert!(expected.same(&got, wanted), "{} {problem:?} {wanted:?}", device.name());
                let rest = Wanted {
                    dx: !wanted.dx,
                    dalpha: !wanted.dalpha,
                    dshift: !wanted.dshift,
                    dgamma: !wanted.dgamma,
                    dbeta: !wanted.dbeta,
                };
                let untouched = Gradients::new(&problem, 0).same(&got, rest);
                assert!(untouched, "{} {problem:?} {wanted:?}: another one was written", device.name());
            }
        }
    }
    Ok(())
}

#[test]
fn saving_statistics_does_not_matter() -> Result<()> {
    let norms = |problem: &Problem| !problem.op().is_pointwise();
    for problem in small()?.into_iter().chain(large()?.into_iter().step_by(2)).filter(norms) {
        let inputs = Inputs::new(&problem, 19);
        for device in common::devices() {
            let expected = forward(&device, &problem, &inputs, 0)?;
            let run = |with_mean: bool, with_rstd: bool| -> Result<(Vec<f32>, Vec<f32>)> {
                let mut y = Tensor::zeros(problem.dtype(), problem.span(), 0);
                let (mut mean, mut rstd) = (vec![0.0; problem.statistics()], vec![0.0; problem.statistics()]);
                let mut arguments = inputs.forward(&problem, Forward::new(inputs.x.view(), y.view_mut()));
                arguments.mean = (with_mean && problem.op().has_mean()).then(|| (&mut mean).into());
                arguments.rstd = with_rstd.then(|| (&mut rstd).into());
                device.forward(&problem, arguments)?;
                same(&device, &problem, "with statistics", &expected, &y);
                Ok((mean, rstd))
            };
            let (mean, rstd) = run(true, true)?;
            assert_eq!(run(true, false)?.0, mean);
            assert_eq!(run(false, true)?.1, rstd);
        }
    }
    Ok(())
}

/// Bytes of the largest cache, as Linux tells it; where it does not, what is usual.
fn cache() -> usize {
    let read = |index| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()
    };
    (0..8).filter_map(read).max().map_or(32 << 20, |kib| kib << 10)
}

/// Results that do not fit the last-level cache are written past it; in place they are not.
#[test]
fn tensors_larger_than_the_cache() -> Result<()> {
    if quick() {
        return Ok(());
    }
    // 8 bytes are moved for each value of the forward. Beyond half a gibibyte of cache this test would take too long.
    let rows = (cache().min(512 << 20) / 8 + (1 << 18)) / 4099;
    for builder in problems(rows, 4099) {
        in_place_gives_the_same_for(&builder.build()?)?;
    }
    in_place_gives_the_same_for(&problems(2 * rows, 4096)[2].dtype(DType::Bf16).build()?)?;
    in_place_gives_the_same_for(&problems(rows, 4096)[0].row_stride(4099).build()?)
}

/// A row of a norm whose squares overflow is done apart from those beside it, in the same lanes too.
#[test]
fn a_row_beyond_f32_leaves_the_others_alone() -> Result<()> {
    let norms = small()?.into_iter().filter(|p| !p.op().is_pointwise() && p.dtype() != DType::F16);
    for problem in norms.filter(|p| p.statistics() > 1) {
        let ordinary = Inputs::new(&problem, 19);
        let mut inputs = Inputs::new(&problem, 19);
        let (chosen, mut random) = (problem.statistics() / 2, common::Random::new(20));
        for at in dyt::reference::row(&problem, chosen) {
            let value = Tensor::new(problem.dtype(), &[1e25 * random.value()], 0);
            inputs.x.set(at, value.bits());
        }
        for device in common::devices() {
            let (a, b) = (forward(&device, &problem, &ordinary, 0)?, forward(&device, &problem, &inputs, 0)?);
            let in_place = forward_in_place(&device, &problem, &inputs)?;
            let (c, d) = (backward(&device, &problem, &ordinary)?, backward(&device, &problem, &inputs)?);
            for place in dyt::reference::places(&problem) {
                let of = |tensor: &Tensor| tensor.bits_of(place.at, 1).to_vec();
                assert_eq!(of(&b), of(&in_place), "{} {problem:?}: in place", device.name());
                if place.statistic != chosen {
                    assert_eq!(of(&a), of(&b), "{} {problem:?}: y", device.name());
                    assert_eq!(of(&c.dx), of(&d.dx), "{} {problem:?}: dx", device.name());
                }
            }
        }
    }
    Ok(())
}
