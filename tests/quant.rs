//! A quantised y: bit for bit the f32 forward, divided by the scale and rounded, on every level; what is refused; the bound.
#![cfg(not(miri))]

mod common;

use common::{Inputs, Random, Tensor, devices, problems, quick};
use dyt::float8::F8E4M3;
use dyt::reference::{self, Place};
use dyt::{
    Argument, Backward, DType, Device, Error, Forward, Op, Problem, ProblemBuilder, Quant, Result, Storage,
};

/// Where the scale of a call comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scaling {
    Given(f32),
    ByRow,
}

/// What a forward of a quantised y writes.
struct Outputs {
    y: Tensor,
    scales: Vec<f32>,
    sum: Tensor,
    statistics: [Vec<f32>; 2],
}

fn saves<'a>(problem: &Problem, [mean, rstd]: &'a mut [Vec<f32>; 2], mut call: Forward<'a>) -> Forward<'a> {
    call.mean = problem.op().has_mean().then(|| mean.as_mut_slice().into());
    call.rstd = (!problem.op().is_pointwise()).then(|| rstd.as_mut_slice().into());
    call
}

/// The forward of a problem that may quantise y, with the residual if there is one.
fn run(
    device: &Device,
    problem: &Problem,
    inputs: &Inputs,
    residual: Option<&Tensor>,
    scaling: Scaling,
    offset: usize,
) -> Result<Outputs> {
    let mut y = Tensor::zeros(problem.y_dtype(), problem.span(), offset);
    let mut sum = Tensor::zeros(problem.dtype(), problem.span(), 0);
    let (mut saved, mut scales) =
        ([(); 2].map(|()| vec![0.0; problem.statistics()]), vec![0.0; problem.statistics()]);
    let given = if let Scaling::Given(scale) = scaling { scale } else { 1.0 };
    let mut call = inputs.forward(problem, Forward::new(inputs.x.view(), y.view_mut()));
    if let Some(residual) = residual {
        call = call.residual(residual.view()).sum(sum.view_mut());
    }
    if problem.quant().is_some() {
        call = if scaling == Scaling::ByRow { call.scales(&mut scales) } else { call.scale(&given) };
    }
    device.forward(problem, saves(problem, &mut saved, call))?;
    Ok(Outputs { y, scales, sum, statistics: saved })
}

/// The bits of some values, where a NaN is any other.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// The scale of each row, from its values.
fn scales(problem: &Problem, quant: Quant, v: &[f32]) -> Vec<f32> {
    let of_row = |statistic| {
        let sizes = reference::row(problem, statistic).map(|at| v[at].abs()).filter(|v| !v.is_nan());
        quant.scale(sizes.fold(0.0, f32::max))
    };
    (0..problem.statistics()).map(of_row).collect()
}

/// Compares a quantised forward with the f32 one of the same values.
fn check(
    problem: &Problem,
    inputs: &Inputs,
    residual: Option<&Tensor>,
    scaling: Scaling,
    offset: usize,
) -> Result<()> {
    for device in devices() {
        let plain = run(&device, &problem.with_quant(None), inputs, residual, scaling, 0)?;
        let v = plain.y.f32s();
        for quant in Quant::ALL {
            let quantised = problem.with_quant(Some(quant));
            let got = run(&device, &quantised, inputs, residual, scaling, offset)?;
            let name = format!("{} {problem:?} {quant} {scaling:?} {offset}", device.name());
            assert!(got.sum.bits() == plain.sum.bits(), "{name}: sum");
            let saved =
                [&got, &plain].map(|outputs| outputs.statistics.each_ref().map(|values| bits(values)));
            assert!(saved[0] == saved[1], "{name}: statistics");
            let scales = match scaling {
                Scaling::Given(scale) => vec![scale; problem.statistics()],
                Scaling::ByRow => {
                    let expected = scales(problem, quant, &v);
                    assert_eq!(got.scales, expected, "{name}: scales");
                    expected
                }
            };
            let mut gaps = vec![true; problem.span()];
            for Place { at, statistic, .. } in reference::places(problem) {
                let (v, scale) = (v[at], scales[statistic]);
                let expected = reference::quantised(quant, f64::from(v / scale), 1.0);
                let y = f64::from(reference::value(quant, got.y.bits()[at]));
                assert!(
                    y == expected || y.is_nan() && expected.is_nan(),
                    "{name}: y[{at}] {y}, {v} / {scale}"
                );
                gaps[at] = false;
            }
            let written = (0..problem.span()).find(|at| gaps[*at] && got.y.bits()[*at] != 0);
            assert_eq!(written, None, "{name}: a gap");
        }
    }
    Ok(())
}

/// Usual values; such that go in f64; values that are not finite, and a row of zeros.
fn all_values(builder: ProblemBuilder, offset: usize) -> Result<()> {
    let problem = builder.build()?;
    let mut inputs = Inputs::new(&problem, 3);
    let residual = Inputs::new(&problem, 4).x;
    for scaling in [Scaling::Given(0.013), Scaling::Given(-2e-5), Scaling::ByRow] {
        check(&problem, &inputs, None, scaling, offset)?;
        check(&problem, &inputs, Some(&residual), scaling, offset)?;
    }
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e-39];
    let mut random = Random::new(9);
    let spoilt: Vec<f32> = (0..problem.span())
        .map(|i| if i % 37 == 5 { special[i / 37 % special.len()] } else { random.value() })
        .collect();
    let usual = std::mem::replace(&mut inputs.x, Tensor::new(DType::F32, &spoilt, 0));
    check(&problem, &inputs, None, Scaling::Given(0.5), 0)?;
    check(&problem, &inputs, None, Scaling::ByRow, 0)?;
    inputs.x = Tensor::new(DType::F32, &vec![0.0; problem.span()], 0);
    let beta = inputs.beta.take();
    check(&problem, &inputs, None, Scaling::ByRow, 0)?;
    (inputs.beta, inputs.alpha) = (beta, 1e20);
    let far: Vec<f32> = usual.f32s().iter().map(|x| x * 1e30).collect();
    inputs.x = Tensor::new(DType::F32, &far, 0);
    check(&problem, &inputs, None, Scaling::Given(0.5), 0)?;
    check(&problem, &inputs, None, Scaling::ByRow, 0)
}

/// Rows, columns, positions and the gap behind a row.
const SHAPES: [(usize, usize, usize, usize); 12] = [
    (5, 1, 1, 0),
    (3, 100, 1, 0),
    (37, 67, 1, 5),
    (9, 512, 1, 0),
    (18, 1023, 1, 1),
    (1, 2051, 1, 0),
    (18, 1025, 1, 0),
    (5, 37, 70, 0),
    (3, 19, 5, 2),
    (2, 3, 300, 0),
    (1, 70, 65, 0),
    (2, 33, 64, 3),
];

#[test]
fn y_is_the_forward_of_f32_divided_and_rounded() -> Result<()> {
    for (i, (rows, cols, inner, gap)) in SHAPES.into_iter().enumerate() {
        for builder in problems(rows, cols) {
            let builder = builder.inner(inner).row_stride(cols * inner + gap);
            all_values(builder, i % 3)?;
            all_values(builder.gamma_offset(1.0), 0)?;
        }
    }
    Ok(())
}

/// Parameters of 16 bits, and x of them: v is that of the same values in f32.
#[test]
fn values_of_16_bits_are_those_of_f32() -> Result<()> {
    for (rows, cols, inner) in [(37, 67, 1), (18, 1030, 1), (5, 37, 70)] {
        for op in [Op::Dyt, Op::Derf] {
            for storage in Storage::ALL {
                let builder = Problem::new(op, rows, cols).inner(inner).quant(Quant::F8E4M3);
                let (problem, wide) = (builder.storage(storage).build()?, builder.build()?);
                let inputs = Inputs::new(&problem, 3);
                let widened = Inputs {
                    x: inputs.x.widened(),
                    gamma: inputs.gamma.as_ref().map(Tensor::widened),
                    beta: inputs.beta.as_ref().map(Tensor::widened),
                    ..inputs.moved([0; 4])
                };
                for device in devices() {
                    for scaling in [Scaling::Given(0.01), Scaling::ByRow] {
                        let got = run(&device, &problem, &inputs, None, scaling, 1)?;
                        let expected = run(&device, &wide, &widened, None, scaling, 0)?;
                        assert!(got.y.bits() == expected.y.bits(), "{} {problem:?}", device.name());
                        assert_eq!(got.scales, expected.scales, "{} {problem:?}", device.name());
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn threads_change_nothing() -> Result<()> {
    if quick() {
        return Ok(());
    }
    for (rows, cols, inner) in [(300, 1100, 1), (2, 150_001, 1), (3, 200, 777)] {
        for builder in problems(rows, cols) {
            let problem = builder.inner(inner).quant(Quant::I8).build()?;
            let inputs = Inputs::new(&problem, 3);
            for device in devices() {
                for scaling in [Scaling::Given(0.01), Scaling::ByRow] {
                    device.set_threads(1);
                    let one = run(&device, &problem, &inputs, None, scaling, 0)?;
                    device.set_threads(5);
                    let many = run(&device, &problem, &inputs, None, scaling, 0)?;
                    assert!(one.y.bits() == many.y.bits() && one.scales == many.scales, "{problem:?}");
                }
            }
        }
    }
    Ok(())
}

/// The error of a forward of 2 × 3 elements, with what `change` makes of it; y holds zeros afterwards.
fn refusal(problem: &Problem, change: impl for<'a> Fn(Forward<'a>, &'a Extra) -> Forward<'a>) -> Error {
    let (extra, x, alpha) = (Extra::default(), [1.0_f32; 6], 0.5_f32);
    let mut y = [F8E4M3::from_bits(0); 6];
    let mut call = change(Forward::new(&x, &mut y), &extra);
    call.alpha = problem.op().is_pointwise().then(|| (&alpha).into());
    let error =
        Device::open("cpu").and_then(|device| device.forward(problem, call)).expect_err("it is refused");
    assert!(y.iter().all(|y| y.to_bits() == 0), "{error}");
    error
}

#[derive(Default)]
struct Extra {
    one: [f32; 1],
    two: [f32; 2],
    wrong: [F8E4M3; 1],
}

#[test]
fn what_is_wrong_about_scales_is_refused_by_name() -> Result<()> {
    let quant = Quant::F8E4M3;
    let problem = Problem::new(Op::Dyt, 2, 3).quant(quant).build()?;
    assert_eq!(refusal(&problem, |call, _| call), Error::MissingScale { quant });
    let mut scales = [0.0_f32; 2];
    let x = [1.0_f32; 6];
    let mut y = [F8E4M3::from_bits(0); 6];
    let (alpha, one) = (0.5_f32, 1.0_f32);
    let device = Device::open("cpu")?;
    let both = Forward::new(&x, &mut y).alpha(&alpha).scale(&one).scales(&mut scales);
    assert_eq!(device.forward(&problem, both), Err(Error::BothScales { quant }));
    let short = refusal(&problem, |call, extra| call.scale(&extra.two));
    assert_eq!(short, Error::WrongLength { argument: Argument::Scale, expected: 1, actual: 2 });
    let dtype = refusal(&problem, |call, extra| call.scale(&extra.wrong));
    let (expected, actual) = (DType::F32, DType::Quant(quant));
    assert_eq!(dtype, Error::WrongDtype { argument: Argument::Scale, expected, actual });
    let mut three = [0.0_f32; 3];
    let long = device.forward(&problem, Forward::new(&x, &mut y).alpha(&alpha).scales(&mut three));
    assert_eq!(long, Err(Error::WrongLength { argument: Argument::Scales, expected: 2, actual: 3 }));
    let mut unquantised = [0.0_f32; 6];
    let plain = problem.with_quant(None);
    let call = Forward::new(&x, &mut unquantised).alpha(&alpha).scale(&one);
    assert_eq!(device.forward(&plain, call), Err(Error::UnexpectedScale { argument: Argument::Scale }));
    let call = Forward::new(&x, &mut unquantised).alpha(&alpha).scales(&mut scales);
    assert_eq!(device.forward(&plain, call), Err(Error::UnexpectedScale { argument: Argument::Scales }));
    Ok(())
}

#[test]
fn a_quantised_y_has_its_own_dtype_and_place() -> Result<()> {
    let quant = Quant::I8;
    let problem = Problem::new(Op::RmsNorm, 2, 3).quant(quant).build()?;
    assert_eq!(problem.y_dtype(), DType::from(quant));
    let error = refusal(&problem, |call, extra| call.scale(&extra.one));
    let (expected, actual) = (DType::Quant(quant), DType::Quant(Quant::F8E4M3));
    assert_eq!(error, Error::WrongDtype { argument: Argument::Y, expected, actual });
    assert!(error.to_string().ends_with("`quant` sets it"), "{error}");
    let (device, one, mut x) = (Device::open("cpu")?, 1.0_f32, [1.0_f32; 6]);
    let call = Forward::in_place(&mut x).scale(&one);
    assert_eq!(device.forward(&problem, call), Err(Error::QuantisedInPlace { quant }));
    let plain = problem.with_quant(None);
    let mut y = [0_i8; 6];
    let error = device.forward(&plain, Forward::new(&x, &mut y));
    let (expected, actual) = (DType::F32, DType::Quant(quant));
    assert_eq!(error, Err(Error::WrongDtype { argument: Argument::Y, expected, actual }));
    // y where x is.
    let pointer = core::ptr::NonNull::from(&mut x).cast();
    // SAFETY: both are of memory that lives; they are compared and refused, never followed.
    let (read, written) = unsafe {
        (
            dyt::View::from_raw_parts(pointer, 6, DType::F32),
            dyt::ViewMut::from_raw_parts(pointer, 6, DType::Quant(quant)),
        )
    };
    let error = device.forward(&problem, Forward::new(read, written).scale(&one));
    assert_eq!(error, Err(Error::Aliasing { output: Argument::Y, other: Argument::X }));
    Ok(())
}

#[test]
fn there_is_no_backward_and_no_quantised_data() -> Result<()> {
    let quant = Quant::F8E5M2;
    let problem = Problem::new(Op::RmsNorm, 2, 3).quant(quant).build()?;
    let (x, mut dx) = ([1.0_f32; 6], [0.0_f32; 6]);
    let device = Device::open("cpu")?;
    let call = || Backward::of(&x).dy(&x);
    assert_eq!(device.backward(&problem, call().dx(&mut dx)), Err(Error::QuantisedBackward { quant }));
    device.backward(&problem.with_quant(None), call().dx(&mut dx))?;
    let data = Problem::new(Op::Dyt, 2, 3).dtype(quant.into()).build();
    assert_eq!(data, Err(Error::DataDtype { quant }));
    let parameters = Problem::new(Op::Dyt, 2, 3).param_dtype(quant.into()).build();
    assert_eq!(parameters, Err(Error::DataDtype { quant }));
    Ok(())
}

#[test]
fn the_bound_holds_whatever_x_is() -> Result<()> {
    let mut random = Random::new(3);
    for (op, storage) in [Op::Dyt, Op::Derf].into_iter().flat_map(|op| Storage::ALL.map(|s| (op, s))) {
        for offset in [0.0, 1.0, -0.7] {
            let problem = Problem::new(op, 3, 100).storage(storage).gamma_offset(offset).build()?;
            let mut inputs = Inputs::new(&problem, 5);
            let large: Vec<f32> = random.values(problem.span()).iter().map(|x| 50.0 * x).collect();
            inputs.x = Tensor::new(problem.dtype(), &large, 0);
            let [gamma, beta] = [&inputs.gamma, &inputs.beta].map(|tensor| tensor.as_ref().map(Tensor::view));
            let bound = problem.bound(gamma, beta)?;
            let quant = Quant::I8;
            for device in devices() {
                let got = run(&device, &problem.with_quant(Some(quant)), &inputs, None, Scaling::ByRow, 0)?;
                let largest = got.scales.iter().fold(0.0_f32, |m, s| m.max(*s)) * quant.largest();
                assert!(largest <= bound * (1.0 + 1e-6) && largest > bound * 0.5, "{largest} of {bound}");
            }
        }
    }
    let problem = Problem::new(Op::Dyt, 1, 2).gamma_offset(1.0).build()?;
    assert_eq!(problem.bound(None, None)?, 1.0);
    assert_eq!(problem.bound(Some((&[-1.0_f32, -1.0]).into()), None)?, 0.0);
    assert_eq!(Quant::I8.scale(0.0), 1.0);
    assert_eq!(problem.bound(None, Some((&[f32::NAN, -2.0]).into()))?, 3.0);
    let wrong = problem.bound(Some((&[1.0_f32]).into()), None);
    assert_eq!(wrong, Err(Error::WrongLength { argument: Argument::Gamma, expected: 2, actual: 1 }));
    let wrong = problem.bound(None, Some((&[1_i8, 2]).into()));
    let (expected, actual) = (DType::F32, DType::Quant(Quant::I8));
    assert_eq!(wrong, Err(Error::WrongDtype { argument: Argument::Beta, expected, actual }));
    for op in [Op::LayerNorm, Op::RmsNorm] {
        let norm = Problem::new(op, 1, 2).build()?;
        assert_eq!(norm.bound(None, None), Err(Error::BoundOfNorm { op }));
    }
    Ok(())
}
