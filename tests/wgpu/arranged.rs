//! Heads, strides of y and parameters that change with the row, in sizes that the list of cases has not: lanes with several
//! rows of a group, chunks that a group cuts short, groups of one row, long rows.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::Adapter;
use dyt::{DType, Device, Op, Problem, ProblemBuilder};
use dyt_conformance::{Case, Values, assert_all_pass, run_in_turns};

use crate::support::{Outcome, adapters, open};

/// The queries of a packed QKV: `heads` of `cols` in tokens three times as wide, and y packed.
fn queries(op: Op, tokens: usize, heads: usize, cols: usize) -> ProblemBuilder {
    let problem = Problem::new(op, tokens, cols).heads(heads, cols).row_stride(3 * heads * cols);
    problem.y_strides(heads * cols, cols)
}

fn problems(op: Op) -> Vec<ProblemBuilder> {
    vec![
        queries(op, 50, 8, 64),
        queries(op, 30, 4, 128).param_rows(8),
        queries(op, 70, 3, 96).dtype(DType::Bf16),
        queries(op, 2, 3, 8200).dtype(DType::F16),
        queries(op, 41, 5, 33).dtype(DType::F16).param_rows(5),
        // A modulation for each sample, and for each row.
        Problem::new(op, 5 * 197, 96).param_rows(197),
        Problem::new(op, 300, 768).param_rows(1).dtype(DType::Bf16).param_dtype(DType::F32),
        Problem::new(op, 600, 20).param_rows(3).accumulate(true),
        Problem::new(op, 6, 8201).param_rows(2),
        Problem::new(op, 64, 3).inner(49).param_rows(4),
        Problem::new(op, 3, 40).inner(1000).param_rows(1).dtype(DType::Bf16),
        Problem::new(op, 3000, 2).inner(2).param_rows(300).y_strides(7, 0),
    ]
}

/// Forwards whose lanes have two rows, in groups that are no multiple of what a workgroup has. For DyT and Derf 256 lanes share
/// a row; a row of a norm has one lane.
fn of_many_rows(op: Op) -> ProblemBuilder {
    if op.is_pointwise() {
        Problem::new(op, 43 * 101, 255).param_rows(101)
    } else {
        Problem::new(op, 525 * 1000, 3).param_rows(1000)
    }
}

fn device(adapter: &Adapter) -> Result<Device, Box<dyn std::error::Error>> {
    let (device, queue) = open(adapter, WgpuKernels::optional_features(), WgpuKernels::required_limits())?;
    Ok(Device::from_wgpu(&WgpuKernels::new(&device, &queue)?))
}

#[test]
fn rows_in_any_arrangement_pass() -> Outcome {
    let mut cases = Vec::new();
    for op in Op::ALL {
        for problem in problems(op).into_iter().chain([of_many_rows(op)]) {
            // Of each op other ones have a residual, and buffers that begin at whole blocks, as even seeds say.
            let n = cases.len();
            let case = Case::new(problem.build()?, Values::Normal).in_place(true);
            cases.push(case.residual(n % 2 == 1).seed((n / 2) as u64));
        }
    }
    let devices = adapters().iter().map(device).collect::<Result<Vec<_>, _>>()?;
    assert_all_pass(&run_in_turns(&devices, &cases)?);
    Ok(())
}
