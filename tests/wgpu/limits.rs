//! Devices with bindings too small for a tensor.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{Adapter, Features, Limits};
use dyt::{DType, Device, Error, Forward, Op, Problem};
use dyt_conformance::{Case, Values, assert_all_pass, run_in_turns};

use crate::support::{Outcome, adapters, open};

/// A binding of 64 KiB: tensors of some hundred rows are cut.
const SMALL_BINDING: u64 = 64 << 10;

/// Problems of which each tensor is several bindings long, with rows that end within a word.
fn long_cases() -> dyt::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for op in Op::ALL {
        for dtype in DType::ALL {
            let shapes = [(1200, 67, 1, 67), (900, 65, 1, 71), (40, 9, 51, 463), (300, 128, 1, 128)];
            for (rows, cols, inner, stride) in shapes {
                let problem = Problem::new(op, rows, cols).dtype(dtype).inner(inner).row_stride(stride);
                for accumulate in [false, true] {
                    let problem = problem.accumulate(accumulate).build()?;
                    cases.push(Case::new(problem, Values::Normal).in_place(true).seed(cases.len() as u64));
                }
            }
        }
    }
    Ok(cases)
}

/// Problems that are cut inside of tokens, between groups of rows that share gamma, and inside of a group.
fn arranged_cases() -> dyt::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for op in Op::ALL {
        let heads = |tokens, heads, cols, gap| {
            let problem = Problem::new(op, tokens, cols).heads(heads, cols);
            problem.row_stride(heads * cols + gap).y_strides(heads * cols + 3, cols)
        };
        let groups = |rows, cols, param_rows| {
            Problem::new(op, rows, cols).param_rows(param_rows).accumulate(rows % 2 == 1)
        };
        let problems = [
            heads(3, 400, 67, 5),
            heads(90, 10, 64, 1280).param_rows(9),
            heads(4, 3, 67, 12_000),
            groups(1200, 67, 1),
            groups(1200, 67, 300),
            groups(3 * 701, 33, 701),
            groups(40, 9, 8).inner(51),
        ];
        for problem in problems {
            let problem = problem.dtype(DType::ALL[cases.len() % 3]).build()?;
            cases.push(Case::new(problem, Values::Normal).in_place(true).seed(cases.len() as u64));
        }
    }
    Ok(cases)
}

/// A device of each adapter that binds little at once.
fn devices() -> Result<Vec<Device>, Box<dyn std::error::Error>> {
    let limits = Limits { max_storage_buffer_binding_size: SMALL_BINDING, ..WgpuKernels::required_limits() };
    let small = |adapter: &Adapter| {
        let (device, queue) = open(adapter, Features::empty(), limits.clone())?;
        Ok(Device::from_wgpu(&WgpuKernels::new(&device, &queue)?))
    };
    adapters().iter().map(small).collect()
}

#[test]
fn tensors_above_the_binding_limit_are_cut_at_rows() -> Outcome {
    assert_all_pass(&run_in_turns(&devices()?, &long_cases()?)?);
    Ok(())
}

#[test]
fn heads_and_groups_above_the_binding_limit_are_cut() -> Outcome {
    assert_all_pass(&run_in_turns(&devices()?, &arranged_cases()?)?);
    Ok(())
}

#[test]
fn a_row_above_the_binding_limit_is_refused() -> Outcome {
    for target in devices()? {
        let cols = SMALL_BINDING as usize / 4 + 1;
        let problem = Problem::new(Op::RmsNorm, 2, cols).build()?;
        let (x, mut y) = (target.zeros(DType::F32, 2 * cols)?, target.zeros(DType::F32, 2 * cols)?);
        let refused = target.forward(&problem, Forward::new(&x, &mut y));
        let row = 4 * cols as u64;
        assert!(
            matches!(refused, Err(Error::RowTooLarge { bytes, limit: SMALL_BINDING, .. }) if bytes >= row),
            "{refused:?}"
        );
    }
    Ok(())
}
