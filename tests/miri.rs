//! The unsafe code that miri can reach: every op, dtype and pass on small shapes, in buffers of exactly the size that
//! the problem needs, so that one element too many is an error.
//!
//! `cargo +nightly miri test -p dyt --no-default-features --test miri`. Under plain `cargo test` every level runs.

mod common;

use core::ptr::NonNull;

use common::{Random, devices, problems};
use dyt::half::{bf16, f16};
use dyt::reference::{self, Inputs, Place};
use dyt::{Backward, DType, Device, Element, Forward, Pass, Problem, ProblemBuilder, Result, View, ViewMut};

/// A storage type with what the comparison needs.
trait Storage: Element + PartialEq + std::fmt::Debug {
    /// The largest relative error of rounding to it.
    const HALF_ULP: f64;
    fn of(value: f32) -> Self;
    fn wide(self) -> f64;
}

impl Storage for f32 {
    const HALF_ULP: f64 = 0.0;
    fn of(value: f32) -> Self {
        value
    }
    fn wide(self) -> f64 {
        self.into()
    }
}
impl Storage for f16 {
    const HALF_ULP: f64 = 1.0 / 2048.0;
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn wide(self) -> f64 {
        self.into()
    }
}
impl Storage for bf16 {
    const HALF_ULP: f64 = 1.0 / 256.0;
    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

fn random<T: Storage>(n: usize, random: &mut Random) -> Box<[T]> {
    (0..n).map(|_| T::of(1.5 * random.uniform())).collect()
}

fn wide<T: Storage>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.wide()).collect()
}

fn of<T: Storage>(n: usize) -> Box<[T]> {
    vec![T::of(9.0); n].into_boxed_slice()
}

const ALPHA: f32 = 0.8;
const SHIFT: f32 = -0.3;

/// Fails unless `got` is `expected` up to a few roundings of terms of this size, and one to `T`; or what `before` allows
/// before that one.
#[track_caller]
fn close<T: Storage>(
    what: &str,
    problem: &Problem,
    got: &[T],
    expected: &[f64],
    size: f64,
    before: impl Fn(Place) -> f64,
) {
    for place in reference::places(problem) {
        let (got, expected) = (got[place.at].wide(), expected[place.at]);
        let bound = 4e-6 * (size + expected.abs()) + T::HALF_ULP * expected.abs() + 6e-8 + before(place);
        assert!((got - expected).abs() <= bound, "{what} {problem:?} at {}: {got} and {expected}", place.at);
    }
}

#[track_caller]
fn close_sums(what: &str, problem: &Problem, got: &[f32], expected: &[f64], size: f64) {
    for (c, (got, expected)) in got.iter().zip(expected).enumerate() {
        let bound = 4e-6 * (size + expected.abs());
        assert!((f64::from(*got) - expected).abs() <= bound, "{what}[{c}] {problem:?}: {got} and {expected}");
    }
}

/// One forward and one backward with everything that the op has, against the reference.
fn check<T: Storage, P: Storage>(device: &Device, problem: &Problem) -> Result<()> {
    let (op, source) = (problem.op(), &mut Random::new(problem.span() as u64));
    let (x, dy): (Box<[T]>, Box<[T]>) = (random(problem.span(), source), random(problem.span(), source));
    let (gamma, beta): (Box<[P]>, Box<[P]>) =
        (random(problem.cols(), source), random(problem.cols(), source));
    let (x64, dy64, gamma64, beta64) = (wide(&x), wide(&dy), wide(&gamma), wide(&beta));
    let inputs = Inputs {
        alpha: f64::from(ALPHA),
        shift: f64::from(SHIFT),
        gamma: Some(&gamma64),
        beta: Some(&beta64),
        ..Inputs::new(&x64)
    };
    let expected = reference::forward(problem, &inputs)?;
    let gradients = reference::backward(problem, &inputs, &dy64)?;

    let (mut y, mut mean, mut rstd) = (of::<T>(problem.span()), statistics(problem), statistics(problem));
    let mut arguments = Forward::new(&*x, &mut *y).gamma(&*gamma).beta(&*beta);
    arguments.alpha = op.is_pointwise().then(|| (&ALPHA).into());
    arguments.shift = op.has_shift().then(|| (&SHIFT).into());
    arguments.mean = op.has_mean().then(|| (&mut *mean).into());
    arguments.rstd = (!op.is_pointwise()).then(|| (&mut *rstd).into());
    device.forward(problem, arguments)?;
    // f for 16 bits is off by a quarter of an ulp, which is at most half of one at gamma·f.
    let f = |place: Place| {
        let off = T::HALF_ULP * (gamma64[place.param] * expected.f[place.at]).abs();
        if op.is_pointwise() { off } else { 0.0 }
    };
    close("y", problem, &y, &expected.y, 4.0, f);
    if !op.is_pointwise() {
        close_sums("rstd", problem, &rstd, &expected.rstd, 0.0);
    }

    let mut dx = of::<T>(problem.span());
    let (mut dalpha, mut dshift) = (1.0, 2.0);
    let (mut dgamma, mut dbeta) = (of::<f32>(problem.cols()), of::<f32>(problem.cols()));
    let mut workspace = workspace(device, problem);
    let mut arguments = Backward::of(&*x).dy(&*dy).gamma(&*gamma).dx(&mut *dx).dgamma(&mut *dgamma);
    arguments = arguments.dbeta(&mut *dbeta);
    arguments.alpha = op.is_pointwise().then(|| (&ALPHA).into());
    arguments.shift = op.has_shift().then(|| (&SHIFT).into());
    arguments.mean = op.has_mean().then(|| (&*mean).into());
    arguments.rstd = (!op.is_pointwise()).then(|| (&*rstd).into());
    arguments.dalpha = op.is_pointwise().then(|| (&mut dalpha).into());
    arguments.dshift = op.has_shift().then(|| (&mut dshift).into());
    device.backward_with(problem, arguments, &mut *workspace)?;
    let largest = expected.rstd.iter().fold(1.0_f64, |a, b| a.max(*b));
    close("dx", problem, &dx, &gradients.dx, 8.0 * largest, |_| 0.0);
    let elements = problem.elements() as f64;
    close_sums("dgamma", problem, &dgamma, &gradients.dgamma, elements);
    close_sums("dbeta", problem, &dbeta, &gradients.dbeta, elements);
    if op.is_pointwise() {
        close_sums("dalpha", problem, &[dalpha], &[gradients.dalpha], elements);
    }
    if op.has_shift() {
        close_sums("dshift", problem, &[dshift], &[gradients.dshift], elements);
    }
    in_place::<T>(device, problem, &x, &dy)
}

/// A forward with nothing beside alpha and shift.
fn forward(device: &Device, problem: &Problem, mut arguments: Forward<'_>) -> Result<()> {
    arguments.alpha = problem.op().is_pointwise().then(|| (&ALPHA).into());
    arguments.shift = problem.op().has_shift().then(|| (&SHIFT).into());
    device.forward(problem, arguments)
}

fn statistics(problem: &Problem) -> Box<[f32]> {
    of(problem.statistics())
}

fn workspace(device: &Device, problem: &Problem) -> Box<[f32]> {
    of(device.workspace_bytes(problem, Pass::Backward).div_ceil(4))
}

/// Without parameters: in place, with the same pointer given twice, and apart; nothing saved, only dx asked for.
fn in_place<T: Storage>(device: &Device, problem: &Problem, x: &[T], dy: &[T]) -> Result<()> {
    let op = problem.op();
    let forward = |arguments: Forward<'_>| forward(device, problem, arguments);
    let (mut apart, mut over, mut twice) = (of::<T>(x.len()), Box::<[T]>::from(x), Box::<[T]>::from(x));
    forward(Forward::new(x, &mut *apart))?;
    forward(Forward::in_place(&mut *over))?;
    let pointer = NonNull::from(&mut *twice).cast();
    // SAFETY: both are views of `twice`, the one as the in-place output of the other; nobody else uses it.
    unsafe {
        let input = View::from_raw_parts(pointer, twice.len(), T::DTYPE);
        forward(Forward::new(input, ViewMut::from_raw_parts(pointer, twice.len(), T::DTYPE)))?;
    }
    same(problem, &apart, &over);
    same(problem, &apart, &twice);

    let backward = |mut arguments: Backward<'_>| {
        arguments.alpha = op.is_pointwise().then(|| (&ALPHA).into());
        arguments.shift = op.has_shift().then(|| (&SHIFT).into());
        device.backward(problem, arguments)
    };
    let (mut apart, mut over) = (of::<T>(x.len()), Box::<[T]>::from(dy));
    backward(Backward::of(x).dy(dy).dx(&mut *apart))?;
    backward(Backward::of(x).in_place(&mut *over))?;
    same(problem, &apart, &over);
    Ok(())
}

#[track_caller]
fn same<T: Storage>(problem: &Problem, a: &[T], b: &[T]) {
    for place in reference::places(problem) {
        assert_eq!(a[place.at], b[place.at], "{problem:?}");
    }
}

/// The problem in each dtype.
fn check_dtypes(builder: ProblemBuilder) -> Result<()> {
    for device in devices() {
        check::<f32, f32>(&device, &builder.build()?)?;
        check::<f16, f16>(&device, &builder.dtype(DType::F16).build()?)?;
        check::<bf16, f32>(&device, &builder.dtype(DType::Bf16).param_dtype(DType::F32).build()?)?;
    }
    Ok(())
}

fn check_f32(builder: ProblemBuilder) -> Result<()> {
    devices().iter().try_for_each(|device| check::<f32, f32>(device, &builder.build()?))
}

#[test]
fn rows() -> Result<()> {
    for (rows, cols) in [(0, 3), (1, 1), (1, 9), (1, 64), (5, 3), (2, 17)] {
        problems(rows, cols).into_iter().try_for_each(check_dtypes)?;
    }
    problems(1, 70).into_iter().try_for_each(check_f32)
}

#[test]
fn rows_of_a_larger_buffer() -> Result<()> {
    for (rows, cols, stride) in [(3, 5, 7), (2, 16, 17)] {
        problems(rows, cols).into_iter().map(|p| p.row_stride(stride)).try_for_each(check_dtypes)?;
    }
    Ok(())
}

#[test]
fn channels_first() -> Result<()> {
    for (n, c, s, stride) in [(2, 3, 2, 6), (2, 2, 9, 20)] {
        problems(n, c).into_iter().map(|p| p.inner(s).row_stride(stride)).try_for_each(check_dtypes)?;
    }
    problems(1, 2).into_iter().map(|p| p.inner(67)).try_for_each(check_f32)
}

/// Chunks of rows, each with partial sums of its own.
#[test]
fn many_rows() -> Result<()> {
    problems(19, 2).into_iter().try_for_each(check_f32)
}

#[test]
fn behind_an_element_that_is_not_theirs() -> Result<()> {
    for builder in problems(2, 11) {
        for device in devices() {
            let problem = builder.dtype(DType::F16).build()?;
            let source = &mut Random::new(5);
            let (x, mut y): (Box<[f16]>, _) =
                (random(problem.span() + 1, source), of::<f16>(problem.span() + 1));
            forward(&device, &problem, Forward::new(&x[1..], &mut y[1..]))?;
            assert_eq!(y[0], f16::of(9.0));
            let inner: Box<[f16]> = x[1..].into();
            let mut apart = of::<f16>(problem.span());
            forward(&device, &problem, Forward::new(&*inner, &mut *apart))?;
            assert_eq!(y[1..], *apart);
        }
    }
    Ok(())
}

/// x in the left columns of a table, y in the right ones.
#[test]
fn columns_of_one_buffer() -> Result<()> {
    for builder in problems(3, 5) {
        for device in devices() {
            let problem = builder.row_stride(10).build()?;
            let mut table: Box<[f32]> = random(30, &mut Random::new(6));
            let left = table.clone();
            let base = NonNull::from(&mut *table).cast::<u8>();
            // SAFETY: x is five columns of the table and y the five beside them, 25 elements from first to last;
            // nobody else uses the table during the call, and the call keeps to its columns.
            unsafe {
                let x = View::from_raw_parts(base, problem.span(), DType::F32);
                let y = ViewMut::from_raw_parts(base.add(20), problem.span(), DType::F32);
                forward(&device, &problem, Forward::new(x, y))?;
            }
            let mut y = of::<f32>(problem.span());
            forward(&device, &problem, Forward::new(&left[..25], &mut *y))?;
            for row in 0..3 {
                assert_eq!(table[row * 10..row * 10 + 5], left[row * 10..row * 10 + 5]);
                assert_eq!(table[row * 10 + 5..row * 10 + 10], y[row * 10..row * 10 + 5]);
            }
        }
    }
    Ok(())
}

#[test]
fn buffers() -> Result<()> {
    for device in devices() {
        let problem = Problem::new(dyt::Op::Dyt, 1, 3).build()?;
        let x = device.upload(&[1.0_f32, -2.0, 0.5])?;
        let (mut y, mut back) = (device.zeros(DType::F32, 3)?, [0.0_f32; 3]);
        device.forward(&problem, Forward::new(&x, &mut y).alpha(&ALPHA))?;
        device.read(&y, &mut back)?;
        assert_eq!(y.as_slice::<f32>(), Some(back.as_slice()));
        assert!(back[1] < -0.9 && back[0] > 0.6);
    }
    Ok(())
}
