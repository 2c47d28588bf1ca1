//! Heads in wider rows, strides of y, and parameters that change with the row: the same bits as packed rows, and as a call for
//! each group of rows; and what is refused.
#![cfg(not(miri))]

mod common;

use common::{Gradients, Inputs, Tensor, Wanted, backward, devices, forward};
use dyt::{
    Argument, Backward, DType, Device, Error, Forward, Level, Op, Problem, ProblemBuilder, Result, View,
    ViewMut,
};

/// Of a problem with heads: how many, the columns, and the strides of x and of y, of tokens and of heads.
type Shape = (usize, usize, [usize; 2], [usize; 2]);

/// Packed QKV with a packed y, gaps everywhere, heads of y apart alone, one head.
const SHAPES: [Shape; 6] = [
    (8, 64, [3 * 8 * 64, 64], [8 * 64, 64]),
    (3, 96, [3 * 3 * 96, 96], [3 * 96, 96]),
    (5, 17, [5 * 23 + 9, 23], [5 * 19 + 2, 19]),
    (2, 128, [256, 128], [300, 150]),
    (6, 1, [13, 2], [6, 1]),
    (1, 70, [75, 0], [80, 0]),
];

const TOKENS: usize = 37;

fn with_heads(op: Op, dtype: DType, (heads, cols, [row, head], [y_row, y_head]): Shape) -> ProblemBuilder {
    Problem::new(op, TOKENS, cols).dtype(dtype).row_stride(row).heads(heads, head).y_strides(y_row, y_head)
}

/// The rows of a tensor one behind the other.
fn packed(problem: &Problem, tensor: &Tensor, [row_stride, head_stride]: [usize; 2]) -> Tensor {
    let (cols, mut rows) = (problem.cols(), Tensor::zeros(problem.dtype(), problem.elements(), 0));
    for row in 0..problem.total_rows() {
        let from = row / problem.heads() * row_stride + row % problem.heads() * head_stride;
        for c in 0..cols {
            rows.set(row * cols + c, tensor.bits_of(from + c, 1));
        }
    }
    rows
}

#[test]
fn heads_have_the_bits_of_packed_rows() -> Result<()> {
    for device in devices() {
        for (op, dtype) in Op::ALL.into_iter().flat_map(|op| DType::ALL.map(|dtype| (op, dtype))) {
            for shape in SHAPES {
                let problem = with_heads(op, dtype, shape).build()?;
                let inputs = Inputs::new(&problem, 3);
                let x = |tensor: &Tensor| packed(&problem, tensor, shape.2);
                let y = |tensor: &Tensor| packed(&problem, tensor, shape.3);
                let plain = Problem::new(op, problem.total_rows(), problem.cols()).dtype(dtype).build()?;
                let same = Inputs { x: x(&inputs.x), dy: y(&inputs.dy), ..inputs.moved([0; 4]) };
                let what = format!("{}: {problem:?}", device.name());
                let (got, expected) =
                    (forward(&device, &problem, &inputs, 1)?, forward(&device, &plain, &same, 0)?);
                assert!(y(&got).bits() == expected.bits(), "y, {what}");
                let (got, expected) =
                    (backward(&device, &problem, &inputs)?, backward(&device, &plain, &same)?);
                assert!(x(&got.dx).bits() == expected.dx.bits(), "dx, {what}");
            }
        }
    }
    Ok(())
}

/// Problems of `groups` groups of rows, and the problem of one group.
fn grouped(
    op: Op,
    dtype: DType,
    groups: usize,
    rows: usize,
    cols: usize,
    inner: usize,
) -> Result<[Problem; 2]> {
    let builder = |rows| Problem::new(op, rows, cols).inner(inner).dtype(dtype).param_dtype(DType::F32);
    Ok([builder(groups * rows).param_rows(rows).build()?, builder(rows).build()?])
}

#[test]
fn groups_of_rows_have_the_bits_of_calls_of_their_own() -> Result<()> {
    let shapes =
        [(3, 1, 20, 1), (4, 7, 33, 1), (2, 130, 48, 1), (5, 16, 768, 1), (3, 1, 19, 50), (2, 3, 8, 70)];
    for device in devices() {
        for (op, dtype) in Op::ALL.into_iter().flat_map(|op| DType::ALL.map(|dtype| (op, dtype))) {
            for (groups, rows, cols, inner) in shapes {
                let [all, one] = grouped(op, dtype, groups, rows, cols, inner)?;
                let inputs = Inputs::new(&all, 5);
                let y = forward(&device, &all, &inputs, 0)?;
                let wanted = Wanted { dalpha: false, dshift: false, ..Wanted::all(&all) };
                let gradients = Gradients::new(&all, 0).run(&device, &all, &inputs, wanted, false)?;
                for group in 0..groups {
                    let part = |tensor: &Tensor, len| tensor.part(group * len, len, 0);
                    let of_param = |tensor: &Option<Tensor>| tensor.as_ref().map(|tensor| part(tensor, cols));
                    let own = Inputs {
                        x: part(&inputs.x, one.span()),
                        dy: part(&inputs.dy, one.span()),
                        gamma: of_param(&inputs.gamma),
                        beta: of_param(&inputs.beta),
                        ..inputs
                    };
                    let what = format!("{}: group {group} of {all:?}", device.name());
                    let expected = forward(&device, &one, &own, 0)?;
                    assert!(part(&y, one.span()).bits() == expected.bits(), "y, {what}");
                    let expected = Gradients::new(&one, 0).run(&device, &one, &own, wanted, false)?;
                    assert!(part(&gradients.dx, one.span()).bits() == expected.dx.bits(), "dx, {what}");
                    assert!(part(&gradients.dgamma, cols).bits() == expected.dgamma.bits(), "dgamma, {what}");
                    assert!(part(&gradients.dbeta, cols).bits() == expected.dbeta.bits(), "dbeta, {what}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn queries_and_keys_of_one_buffer() -> Result<()> {
    // From the queries to the place of the keys: apart, although one lies within the span of the other.
    let (tokens, heads, cols) = (5, 3, 8);
    let problem =
        Problem::new(Op::RmsNorm, tokens, cols).row_stride(3 * heads * cols).heads(heads, cols).build()?;
    let mut qkv: Vec<f32> = (0..tokens * 3 * heads * cols).map(|i| i as f32 - 100.0).collect();
    let before = qkv.clone();
    let (first, device) =
        (core::ptr::NonNull::from(qkv.as_mut_slice()).cast::<u8>(), Device::cpu(Level::Portable)?);
    let call = |distance: usize| {
        // SAFETY: the span of each lies in the buffer, and the device refuses those that overlap.
        unsafe {
            let x = View::from_raw_parts(first, problem.span(), DType::F32);
            let y = ViewMut::from_raw_parts(first.add(4 * distance), problem.span(), DType::F32);
            device.forward(&problem, Forward::new(x, y))
        }
    };
    call(heads * cols)?;
    assert_eq!(call(heads * cols - 1), Err(Error::Aliasing { output: Argument::Y, other: Argument::X }));
    for (token, (now, before)) in
        qkv.chunks(3 * heads * cols).zip(before.chunks(3 * heads * cols)).enumerate()
    {
        assert_eq!(now[..heads * cols], before[..heads * cols], "queries of token {token}");
        assert_eq!(now[2 * heads * cols..], before[2 * heads * cols..], "values of token {token}");
        for head in 0..heads {
            let (x, y) = (&before[head * cols..][..cols], &now[(heads + head) * cols..][..cols]);
            let mean_square = x.iter().map(|x| x * x).sum::<f32>() / cols as f32;
            for (x, y) in x.iter().zip(y) {
                assert!((y - x / mean_square.sqrt()).abs() < 1e-5, "token {token}, head {head}: {y}");
            }
        }
    }
    Ok(())
}

fn refused(problem: ProblemBuilder) -> Error {
    problem.build().expect_err("the problem is wrong")
}

#[test]
fn refusals() -> Result<()> {
    let problem = Problem::new(Op::RmsNorm, 6, 4);
    assert_eq!(refused(problem.heads(0, 4)), Error::ZeroHeads);
    assert_eq!(refused(problem.inner(3).heads(2, 12)), Error::HeadsChannelsFirst { heads: 2, inner: 3 });
    let (argument, cols) = (Argument::X, 4);
    assert_eq!(refused(problem.heads(2, 3)), Error::HeadsOverlap { argument, head_stride: 3, cols });
    let y = problem.heads(2, 4).y_strides(8, 3);
    assert_eq!(refused(y), Error::HeadsOverlap { argument: Argument::Y, head_stride: 3, cols });
    let rows = problem.heads(2, 5).row_stride(8);
    assert_eq!(refused(rows), Error::StrideTooSmall { argument, row_stride: 8, minimum: 9 });
    let y = problem.y_strides(3, 0);
    assert_eq!(refused(y), Error::StrideTooSmall { argument: Argument::Y, row_stride: 3, minimum: 4 });
    for param_rows in [0, 4, 5, 7] {
        assert_eq!(refused(problem.param_rows(param_rows)), Error::ParamRows { param_rows, rows: 6 });
    }
    assert_eq!(problem.heads(2, 4).param_rows(4).build()?.param_groups(), 3);
    let huge = problem.heads(usize::MAX / 2, usize::MAX / 2);
    assert!(matches!(refused(huge), Error::SizeOverflow { .. }));
    Ok(())
}

#[test]
fn refusals_of_calls() -> Result<()> {
    let device = Device::cpu(Level::Portable)?;
    let strided = Problem::new(Op::LayerNorm, 2, 3).y_strides(4, 0).build()?;
    let (x, mut y) = ([1.0_f32; 6], [0.0_f32; 7]);
    assert_eq!(
        device.forward(&strided, Forward::in_place(&mut y)),
        Err(Error::InPlaceStrides { output: Argument::Y, input: Argument::X })
    );
    assert_eq!(
        device.backward(&strided, Backward::of(&x).in_place(&mut y)),
        Err(Error::InPlaceStrides { output: Argument::Dx, input: Argument::Dy })
    );
    let grouped = Problem::new(Op::LayerNorm, 2, 3).param_rows(1).build()?;
    let (mut y, gamma) = ([0.0_f32; 6], [1.0_f32; 3]);
    assert_eq!(
        device.forward(&grouped, Forward::new(&x, &mut y).gamma(&gamma)),
        Err(Error::WrongLength { argument: Argument::Gamma, expected: 6, actual: 3 })
    );
    Ok(())
}
