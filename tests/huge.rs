//! Tensors of more than 2^31 elements: indices that do not fit 32 bits.

use std::ops::Range;

use dyt::half::bf16;
use dyt::reference::{self, Inputs};
use dyt::{Backward, Device, Forward, Level, Op, Pass, Problem, Result};

const ROWS: usize = 65_539;
const COLS: usize = 32_771;
const ALPHA: f32 = 0.75;
const SHIFT: f32 = -0.25;

/// Element `at` of a tensor, from its index alone: within ±2, and other than those 2^31 or 2^32 before it.
fn element(at: usize, tensor: u64) -> bf16 {
    let mixed = (at as u64 ^ tensor << 60).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bf16::from_f32(((mixed ^ mixed >> 29) >> 32) as u32 as f32 / 1_073_741_824.0 - 2.0)
}

/// Overwrites all elements, on all cores.
fn fill(values: &mut [bf16], tensor: u64) {
    const PART: usize = 1 << 24;
    let parts = std::sync::Mutex::new(values.chunks_mut(PART).enumerate());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let part = parts.lock().expect("no thread fails").next();
                    let Some((index, part)) = part else { break };
                    for (i, value) in part.iter_mut().enumerate() {
                        *value = element(index * PART + i, tensor);
                    }
                }
            });
        }
    });
}

fn original(range: Range<usize>, tensor: u64) -> Vec<f64> {
    range.map(|at| element(at, tensor).to_f64()).collect()
}

fn parameter(c: usize) -> f32 {
    1.0 + (c % 97) as f32 / 128.0
}

/// One unit of the last place of bf16 at `value`.
fn ulp(value: f64) -> f64 {
    2.0_f64.powf(value.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() - 7.0)
}

#[track_caller]
fn close(what: &str, at: usize, got: bf16, expected: f64, bound: f64) {
    assert!((got.to_f64() - expected).abs() <= bound, "{what}, element {at}: {got}, expected {expected}");
}

/// Rows that are compared: the first, the last, those about 2^31 and 2^30 elements, and some between.
fn rows() -> Vec<usize> {
    let about = |element: usize| element / COLS;
    let near = about(1 << 31);
    vec![0, 1, about(1 << 30), 40_000, near - 1, near, near + 1, ROWS - 2, ROWS - 1]
}

#[test]
#[ignore = "needs 10 GiB of memory and about a minute in release; .ci/run runs it"]
fn more_than_two_to_the_31_elements() -> Result<()> {
    let device = Device::cpu(Level::best())?;
    let elements = ROWS * COLS;
    assert!(elements > (1 << 31) + COLS);
    let mut a = vec![bf16::ZERO; elements];
    one_row(&device, &mut a)?;
    channels_first(&device, &mut a)?;
    let mut b = vec![bf16::ZERO; elements];
    for op in [Op::Derf, Op::LayerNorm] {
        many_rows(&device, op, &mut a, &mut b)?;
    }
    Ok(())
}

/// A single row with column indices beyond 2^31, forward and in place.
fn one_row(device: &Device, x: &mut [bf16]) -> Result<()> {
    fill(x, 0);
    let problem = Problem::new(Op::Dyt, 1, x.len()).dtype(dyt::DType::Bf16).build()?;
    device.forward(&problem, Forward::in_place(&mut *x).alpha(&ALPHA))?;
    let spread = (0..x.len()).step_by(1_000_003);
    let edges = [1 << 31, 1 << 30].into_iter().flat_map(|edge| edge - 70..edge + 70);
    for at in spread.chain(edges).chain(x.len() - 70..x.len()) {
        let u = f64::from(ALPHA) * element(at, 0).to_f64();
        close("dyt in one row", at, x[at], u.tanh(), ulp(u.tanh()));
    }
    Ok(())
}

/// Channels beyond 2^31, each of some 2^29.4 positions.
fn channels_first(device: &Device, x: &mut [bf16]) -> Result<()> {
    fill(x, 1);
    let (cols, inner) = (3, x.len() / 3);
    let x = &mut x[..cols * inner];
    let gamma = [1.5_f32, -0.5, 2.0];
    let problem = Problem::new(Op::RmsNorm, 1, cols).inner(inner).dtype(dyt::DType::Bf16);
    let problem = problem.param_dtype(dyt::DType::F32).build()?;
    device.forward(&problem, Forward::in_place(&mut *x).gamma(&gamma))?;
    for s in (0..inner).step_by(5_000_011).chain([inner - 1]) {
        let values = [0, 1, 2].map(|c| element(c * inner + s, 1).to_f64());
        let square = values.iter().map(|v| v * v).sum::<f64>() / 3.0;
        for (c, value) in values.into_iter().enumerate() {
            let expected = value / (square + f64::from(problem.eps())).sqrt() * f64::from(gamma[c]);
            close("rms_norm channels-first", c * inner + s, x[c * inner + s], expected, ulp(expected));
        }
    }
    Ok(())
}

fn inputs<'a>(x: &'a [f64], parameters: &'a [f64]) -> Inputs<'a> {
    Inputs {
        alpha: f64::from(ALPHA),
        shift: f64::from(SHIFT),
        gamma: Some(parameters),
        beta: Some(parameters),
        ..Inputs::new(x)
    }
}

/// Row indices beyond 2^31 elements: forward over x, then backward over dy, with the gradients of parameters.
fn many_rows(device: &Device, op: Op, x: &mut [bf16], dy: &mut [bf16]) -> Result<()> {
    let gamma: Vec<f32> = (0..COLS).map(parameter).collect();
    let wide: Vec<f64> = gamma.iter().copied().map(f64::from).collect();
    let whole =
        |rows| Problem::new(op, rows, COLS).dtype(dyt::DType::Bf16).param_dtype(dyt::DType::F32).build();
    let (problem, row) = (whole(ROWS)?, whole(1)?);
    fill(x, 2);
    let mut arguments = Forward::in_place(&mut *x).gamma(&gamma).beta(&gamma);
    arguments.alpha = op.is_pointwise().then(|| (&ALPHA).into());
    arguments.shift = op.has_shift().then(|| (&SHIFT).into());
    device.forward(&problem, arguments)?;
    for r in rows() {
        let (begin, end) = (r * COLS, (r + 1) * COLS);
        let x64 = original(begin..end, 2);
        let expected = reference::forward(&row, &inputs(&x64, &wide))?;
        for c in 0..COLS {
            // The sum of gamma·f and beta may cancel: the bound is an ulp of the larger.
            let largest = expected.y[c].abs().max(wide[c]).max((wide[c] * expected.f[c]).abs());
            close(op.name(), begin + c, x[begin + c], expected.y[c], ulp(largest));
        }
    }

    fill(x, 2);
    fill(dy, 3);
    let (mut dgamma, mut dbeta) = (vec![0.0_f32; COLS], vec![0.0_f32; COLS]);
    let mut workspace = vec![0.0_f32; device.workspace_bytes(&problem, Pass::Backward).div_ceil(4)];
    let mut arguments =
        Backward::of(&*x).in_place(&mut *dy).gamma(&gamma).dgamma(&mut dgamma).dbeta(&mut dbeta);
    arguments.alpha = op.is_pointwise().then(|| (&ALPHA).into());
    arguments.shift = op.has_shift().then(|| (&SHIFT).into());
    device.backward_with(&problem, arguments, &mut workspace)?;
    // 4e-6·rstd·max|h|·(1 + |x̂|): values are spread evenly within ±2, gamma is below 1.75.
    let error = 4e-6 * 0.87 * 3.5 * 2.74;
    for r in rows() {
        let (begin, end) = (r * COLS, (r + 1) * COLS);
        let (x64, dy64) = (original(begin..end, 2), original(begin..end, 3));
        let expected = reference::backward(&row, &inputs(&x64, &wide), &dy64)?;
        for c in 0..COLS {
            close("dx", begin + c, dy[begin + c], expected.dx[c], ulp(expected.dx[c]) + error);
        }
    }
    sums(op, x, [0, 1, COLS / 2, COLS - 1], &dgamma, &dbeta);
    Ok(())
}

/// The sums of some columns over all rows. Those of dgamma take a row's statistics, so that DyT and Derf alone have it.
fn sums(op: Op, x: &[bf16], columns: [usize; 4], dgamma: &[f32], dbeta: &[f32]) {
    for c in columns {
        let (mut gamma, mut beta, mut size) = (0.0, 0.0, 0.0);
        for at in (0..ROWS).map(|r| r * COLS + c) {
            let dy = element(at, 3).to_f64();
            size += dy.abs();
            beta += dy;
            gamma += dy * libm::erf(f64::from(ALPHA) * x[at].to_f64() + f64::from(SHIFT));
        }
        let close = |got: f32, expected: f64| (f64::from(got) - expected).abs() <= 1e-6 * size;
        assert!(close(dbeta[c], beta), "{op}: dbeta[{c}] is {}, expected {beta}", dbeta[c]);
        if op == Op::Derf {
            assert!(close(dgamma[c], gamma), "{op}: dgamma[{c}] is {}, expected {gamma}", dgamma[c]);
        } else {
            assert!(dgamma[c].is_finite() && dgamma[c] != 0.0);
        }
    }
}
