//! Devices with less than their adapter has: no subgroups, and bindings too small for a tensor.

use dyt::wgpu::WgpuKernels;
use dyt::wgpu::wgpu::{Features, Limits};
use dyt::{DType, Device, Error, Forward, Op, Problem};
use dyt_conformance::{Case, Values, quick_cases, run_case};

use crate::support::{Outcome, adapters, open};

/// A binding of 64 KiB: tensors of some hundred rows are cut.
const SMALL_BINDING: u64 = 64 << 10;

#[test]
fn both_ways_to_add_up_pass_the_list() -> Outcome {
    for adapter in adapters() {
        for features in [Features::empty(), Features::SUBGROUP] {
            let (device, queue) = open(&adapter, features, WgpuKernels::required_limits())?;
            let kernels = WgpuKernels::new(&device, &queue)?;
            assert_eq!(
                kernels.subgroups(),
                adapter.features().contains(Features::SUBGROUP) && !features.is_empty()
            );
            println!("{}: subgroups {}", adapter.get_info().name, kernels.subgroups());
            let target = Device::from_wgpu(&kernels);
            for case in quick_cases() {
                run_case(&target, &case)?;
            }
        }
    }
    Ok(())
}

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

#[test]
fn tensors_above_the_binding_limit_are_cut_at_rows() -> Outcome {
    for adapter in adapters() {
        let limits =
            Limits { max_storage_buffer_binding_size: SMALL_BINDING, ..WgpuKernels::required_limits() };
        let (device, queue) = open(&adapter, Features::empty(), limits)?;
        let target = Device::from_wgpu(&WgpuKernels::new(&device, &queue)?);
        for case in long_cases()? {
            run_case(&target, &case)?;
        }
    }
    Ok(())
}

#[test]
fn a_row_above_the_binding_limit_is_refused() -> Outcome {
    for adapter in adapters() {
        let limits =
            Limits { max_storage_buffer_binding_size: SMALL_BINDING, ..WgpuKernels::required_limits() };
        let (device, queue) = open(&adapter, Features::empty(), limits)?;
        let target = Device::from_wgpu(&WgpuKernels::new(&device, &queue)?);
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
