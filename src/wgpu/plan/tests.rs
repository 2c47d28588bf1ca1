use super::super::compose::{Body, Form, kept};
use super::*;
use crate::{DType, Error, Op};

mod arrangement;
mod counted;

const ROWS: [usize; 9] = [1, 2, 7, 64, 255, 4096, 70_001, 1 << 20, 1 << 25];
const COLS: [usize; 12] = [1, 2, 3, 8, 17, 64, 768, 4096, 8192, 16_384, 65_536, 262_144];
/// Where every argument begins: aligned to anything, to 16 bytes, and to an element.
const OFFSETS: [u64; 3] = [0, 4096 + 16, 4];
/// Those of WebGPU, of a device that binds nearly everything at once, of one that binds little, and of Mesa's llvmpipe,
/// which counts the steps of loops.
const LIMITS: [Limits; 4] = [
    Limits { alignment: 256, binding: 128 << 20, workgroups: 65_535, subgroups: false, loop_steps: None },
    Limits { alignment: 32, binding: (1 << 31) - 4, workgroups: 65_535, subgroups: true, loop_steps: None },
    Limits { alignment: 256, binding: 2 << 20, workgroups: 65_535, subgroups: true, loop_steps: None },
    Limits {
        alignment: 16,
        binding: 128 << 20,
        workgroups: 65_535,
        subgroups: true,
        loop_steps: Some(65_535),
    },
];

type Plan = fn(&Problem, &Arguments, &Limits) -> Result<Vec<Dispatch>>;

/// The arguments that an op may have, all at one offset.
fn arguments(problem: &Problem, pass: Pass, offset: u64) -> Arguments {
    let op = problem.op();
    let (tensors, own): (&[Argument], &[Argument]) = match pass {
        Pass::Forward => (&[Argument::X, Argument::Y], &[Argument::Beta]),
        Pass::Backward => (
            &[Argument::Dy, Argument::X, Argument::Dx],
            &[Argument::Dgamma, Argument::Dbeta, Argument::Workspace],
        ),
    };
    let backward = pass == Pass::Backward;
    let optional = [
        (Argument::Alpha, op.is_pointwise()),
        (Argument::Shift, op.has_shift()),
        (Argument::Mean, op.has_mean()),
        (Argument::Rstd, !op.is_pointwise()),
        (Argument::Dalpha, backward && op.is_pointwise()),
        (Argument::Dshift, backward && op.has_shift()),
    ];
    let optional = optional.into_iter().filter_map(|(argument, has)| has.then_some(argument));
    let mut at = Arguments::default();
    for argument in tensors.iter().chain(own).copied().chain([Argument::Gamma]).chain(optional) {
        at.add(argument, offset);
    }
    at
}

fn binding(dispatch: &Dispatch, slot: Slot) -> Option<Binding> {
    dispatch.bindings.iter().find(|binding| binding.slot == slot).copied()
}

fn is_fold(dispatch: &Dispatch) -> bool {
    dispatch.kernel.body == Body::Fold
}

fn within_limits(dispatch: &Dispatch, limits: &Limits) {
    let [x, y, z] = dispatch.workgroups.map(u64::from);
    let all = u64::from(dispatch.params.workgroups);
    assert!(x > 0 && y > 0 && z == 1 && x.max(y) <= limits.workgroups, "{dispatch:?}");
    // The kernel leaves the workgroups behind the last one alone; a line of them would be for nothing.
    assert!(x * y >= all && x * (y - 1) < all, "{dispatch:?}");
    let declared = dispatch.kernel.declared();
    assert!(declared.len() <= 8, "{dispatch:?}");
    let steps = steps::of(dispatch.kernel, &dispatch.params);
    assert!(steps <= limits.most_steps(), "{steps} steps: {dispatch:?}");
    for (i, binding) in dispatch.bindings.iter().enumerate() {
        assert!(binding.start.is_multiple_of(limits.alignment), "{dispatch:?}");
        assert!(binding.bytes > 0 && binding.bytes <= limits.binding, "{dispatch:?}");
        assert!(binding.bytes.is_multiple_of(4), "{dispatch:?}");
        assert!(dispatch.bindings[..i].iter().all(|other| other.slot != binding.slot), "{dispatch:?}");
        // What is bound to no slot of the kernel would be dropped.
        assert!(declared.iter().any(|declared| declared.slot == binding.slot), "{dispatch:?}");
    }
}

/// `workgroups` of `each` cover `len` without an idle one.
fn covers(len: u64, workgroups: u64, each: u64, dispatch: &Dispatch) {
    assert!(workgroups * each >= len && (workgroups - 1) * each < len, "{len} {dispatch:?}");
}

/// Every row and column of the dispatch's part belongs to one workgroup, by the arithmetic of the kernels.
fn covers_once(problem: &Problem, dispatch: &Dispatch) {
    if is_fold(dispatch) {
        return;
    }
    let params = &dispatch.params;
    let [rows, workgroups, team, steps, slabs] =
        [params.rows, params.workgroups, params.team, params.steps, params.slabs].map(u64::from);
    let width = if dispatch.kernel.has_blocks() { geometry::vector(problem.dtype()) } else { 1 };
    let (cols, len) = (problem.cols() as u64, problem.row_len() as u64);
    assert!(!dispatch.kernel.wide || len.is_multiple_of(width), "{dispatch:?}");
    assert!(team.is_power_of_two() && team <= 256, "{dispatch:?}");
    let rows_of_teams = 256 / team;
    match dispatch.kernel.body {
        Body::Pointwise { pass, ahead, .. } => {
            assert_eq!(ahead, pass == Pass::Forward && steps.is_multiple_of(4), "{dispatch:?}");
            covers(len, slabs, team * width, dispatch);
            covers(rows, workgroups / slabs, rows_of_teams * steps, dispatch);
        }
        Body::Norm { form: Form::First, pass, .. } => {
            let tiles = (problem.inner() as u64).div_ceil(32);
            match (pass, slabs) {
                (Pass::Forward, _) => assert_eq!(workgroups, rows * tiles, "{dispatch:?}"),
                (Pass::Backward, 0) => covers(rows * tiles, workgroups, steps, dispatch),
                (Pass::Backward, slabs) => {
                    covers(tiles, slabs, steps, dispatch);
                    assert_eq!(workgroups, rows * slabs, "{dispatch:?}");
                }
            }
        }
        Body::Norm { form, pass, subgroups, .. } => {
            let kept = u64::from(kept(form, pass, problem.dtype())) * width * team;
            assert!(form == Form::Long || kept >= cols, "{dispatch:?}");
            assert!(form == Form::Kept || team == 256, "{dispatch:?}");
            assert!(!subgroups || team == 256, "{dispatch:?}");
            covers(rows, workgroups, rows_of_teams * steps, dispatch);
        }
        Body::Quantised { first, .. } => {
            let tiles = if first { (problem.inner() as u64).div_ceil(32) } else { 1 };
            assert_eq!((workgroups, team, steps), (rows * tiles, 256, 1), "{dispatch:?}");
        }
        Body::Fold => {}
    }
}

/// The parts of the tensors follow one another and reach to the end.
fn parts_are_whole(problem: &Problem, offset: u64, dispatches: &[Dispatch]) {
    let (size, stride) = (problem.dtype().size() as u64, problem.row_stride() as u64);
    let mut first = 0;
    for dispatch in dispatches.iter().filter(|dispatch| !is_fold(dispatch)) {
        let rows = u64::from(dispatch.params.rows);
        let x = binding(dispatch, Slot::X).expect("x is bound");
        let begin = x.start + u64::from(dispatch.params.x_start) * size;
        assert_eq!(begin, offset + first * stride * size, "{dispatch:?}");
        let end = begin + ((rows - 1) * stride + problem.row_len() as u64) * size;
        assert!((x.start + x.bytes).wrapping_sub(end) < 4, "{dispatch:?}");
        assert!(rows < 2 || u64::from(dispatch.params.row_stride) == stride, "{dispatch:?}");
        first += rows;
    }
    assert_eq!(first, problem.rows() as u64);
}

/// The first stage writes one record behind the other, and the fold reads just those.
fn records_are_written_and_read(problem: &Problem, offset: u64, dispatches: &[Dispatch], limits: &Limits) {
    let record = |dispatch: &Dispatch| u64::from(dispatch.params.record) * 4;
    let span = |dispatch: &Dispatch| {
        let sums = binding(dispatch, Slot::Sums).expect("the partial sums are bound");
        let begin = sums.start + u64::from(dispatch.params.sums_start) * 4;
        (begin, sums.start + sums.bytes)
    };
    let mut written = offset;
    let (folds, stages): (Vec<_>, Vec<_>) = dispatches.iter().partition(|dispatch| is_fold(dispatch));
    for dispatch in stages {
        let (begin, end) = span(dispatch);
        assert_eq!(begin, written, "{dispatch:?}");
        let chunks = match dispatch.kernel.body {
            Body::Pointwise { .. } => dispatch.params.workgroups / dispatch.params.slabs,
            _ => dispatch.params.workgroups,
        };
        assert_eq!(end - begin, u64::from(chunks) * record(dispatch), "{dispatch:?}");
        written = end;
    }
    assert!(written - offset <= workspace_bytes(problem, Pass::Backward, limits) as u64, "{problem:?}");
    let mut read = offset;
    for dispatch in folds {
        let (begin, end) = span(dispatch);
        assert_eq!(begin, read, "{dispatch:?}");
        let chunks = u64::from(dispatch.params.groups) * u64::from(dispatch.params.chunks);
        assert_eq!(end - begin, chunks * record(dispatch), "{dispatch:?}");
        // What the first of several has written, the others add to.
        assert_eq!(dispatch.params.flags & flag::ACCUMULATE_SCALARS != 0, read > offset, "{dispatch:?}");
        assert!(problem.param_groups() > 1 || dispatch.params.flags & flag::ACCUMULATE == 0 || read > offset);
        read = end;
    }
    assert_eq!(read, written, "{problem:?}");
}

/// Whether a row, or a record, can be bound at all.
fn can_be_bound(problem: &Problem, limits: &Limits) -> bool {
    let row = problem.row_len() * 4;
    let record = 8 * (2 * problem.cols() + problem.row_len());
    let statistics = 4 * problem.inner();
    (row.max(record).max(statistics) as u64) < limits.binding / 4
}

fn check(problem: &Problem) -> Result<()> {
    for limits in LIMITS.iter().filter(|limits| can_be_bound(problem, limits)) {
        for offset in OFFSETS {
            for pass in Pass::ALL {
                let at = arguments(problem, pass, offset);
                let dispatches = match pass {
                    Pass::Forward => forward(problem, &at, limits)?,
                    Pass::Backward => backward(problem, &at, limits)?,
                };
                for dispatch in &dispatches {
                    within_limits(dispatch, limits);
                    covers_once(problem, dispatch);
                }
                parts_are_whole(problem, offset, &dispatches);
                if pass == Pass::Backward {
                    records_are_written_and_read(problem, offset, &dispatches, limits);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_row_and_column_is_covered_once_within_the_limits() -> Result<()> {
    for op in Op::ALL {
        for dtype in DType::ALL {
            for rows in ROWS {
                for cols in COLS {
                    // With the least binding, larger ones have very many parts.
                    if rows.saturating_mul(cols) <= 1 << 31 {
                        check(&Problem::new(op, rows, cols).dtype(dtype).build()?)?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_number_of_columns_has_a_plan() -> Result<()> {
    for cols in 1..=262_144 {
        let op = Op::ALL[cols % Op::ALL.len()];
        check(&Problem::new(op, 33, cols).dtype(DType::ALL[cols % 3]).build()?)?;
    }
    Ok(())
}

#[test]
fn channels_first_data_is_covered_once() -> Result<()> {
    for op in Op::ALL {
        for (rows, cols, inner) in
            [(1, 1, 2), (256, 768, 49), (3, 65, 5), (2, 4096, 3136), (1, 3, 1 << 20), (1 << 21, 1, 2)]
        {
            check(&Problem::new(op, rows, cols).inner(inner).dtype(DType::Bf16).build()?)?;
        }
    }
    Ok(())
}

#[test]
fn tensors_beyond_a_binding_are_cut_at_rows() -> Result<()> {
    for op in Op::ALL {
        for power in [31_u32, 33] {
            for cols in [128_usize, 4096, 262_144] {
                let rows = (1_usize << power) / cols;
                for rows in [rows, rows - 1, rows + 1] {
                    check(&Problem::new(op, rows, cols).build()?)?;
                    check(&Problem::new(op, rows, cols).row_stride(cols + 3).build()?)?;
                }
            }
        }
        // Rows that lie far apart.
        check(&Problem::new(op, 1000, 3).row_stride(70_000).build()?)?;
        check(&Problem::new(op, 100, 8).row_stride(1 << 24).build()?)?;
    }
    Ok(())
}

#[test]
fn a_row_beyond_a_binding_is_an_error() -> Result<()> {
    let limits = LIMITS[2];
    for op in Op::ALL {
        let problem = Problem::new(op, 2, 1 << 20).build()?;
        let at = arguments(&problem, Pass::Forward, 0);
        let refused = forward(&problem, &at, &limits).err();
        assert!(matches!(refused, Some(Error::RowTooLarge { limit: 2_097_152, .. })), "{refused:?}");
    }
    Ok(())
}

#[test]
fn no_rows_leave_only_the_sums() -> Result<()> {
    for op in Op::ALL {
        let problem = Problem::new(op, 0, 17).build()?;
        assert_eq!(workspace_bytes(&problem, Pass::Backward, &LIMITS[0]), 0);
        assert!(forward(&problem, &arguments(&problem, Pass::Forward, 0), &LIMITS[0])?.is_empty());
        let dispatches = backward(&problem, &arguments(&problem, Pass::Backward, 0), &LIMITS[0])?;
        assert!(dispatches.iter().all(is_fold));
        assert_eq!(dispatches.iter().map(|dispatch| dispatch.params.chunks).collect::<Vec<_>>(), [0]);
    }
    Ok(())
}

#[test]
fn gradients_that_are_not_asked_for_need_no_dispatch() -> Result<()> {
    let problem = Problem::new(Op::Derf, 4096, 1024).build()?;
    let mut at = Arguments::default();
    for argument in [Argument::Dy, Argument::X, Argument::Dx, Argument::Alpha, Argument::Shift] {
        at.add(argument, 0);
    }
    let dispatches = backward(&problem, &at, &LIMITS[0])?;
    assert!(dispatches.iter().all(|dispatch| !is_fold(dispatch)));
    assert!(dispatches.iter().all(|dispatch| binding(dispatch, Slot::Sums).is_none()));
    Ok(())
}

#[test]
fn partial_sums_are_a_small_part_of_the_traffic() -> Result<()> {
    for op in Op::ALL {
        for (rows, cols) in [(8192, 4096), (1 << 20, 128), (32_768, 1024), (1 << 25, 1)] {
            let problem = Problem::new(op, rows, cols).build()?;
            let traffic = 3 * problem.elements() * problem.dtype().size();
            let partials = workspace_bytes(&problem, Pass::Backward, &LIMITS[0]);
            assert!(partials * 20 <= traffic, "{op} {rows} × {cols}: {partials} of {traffic}");
        }
    }
    Ok(())
}

#[test]
fn what_is_added_up_is_the_same_on_devices_of_usual_limits() -> Result<()> {
    for op in Op::ALL {
        let problem = Problem::new(op, 777, 65_536).dtype(DType::Bf16).build()?;
        let stages = |limits: &Limits| -> Result<Vec<(u32, u32, u32)>> {
            let all = backward(&problem, &arguments(&problem, Pass::Backward, 0), limits)?;
            let shape =
                |dispatch: &Dispatch| (dispatch.params.team, dispatch.params.steps, dispatch.params.slabs);
            let mut shapes: Vec<_> = all.iter().filter(|dispatch| !is_fold(dispatch)).map(shape).collect();
            shapes.dedup();
            Ok(shapes)
        };
        assert_eq!(stages(&LIMITS[0])?, stages(&LIMITS[1])?);
    }
    Ok(())
}

#[test]
fn where_a_row_begins_decides_no_order_of_sums() -> Result<()> {
    for op in [Op::LayerNorm, Op::RmsNorm] {
        for dtype in [DType::F32, DType::F16] {
            for cols in [8, 64, 1024, 8192, 100_000] {
                let problem = Problem::new(op, 5, cols).dtype(dtype).build()?;
                let order = |plan: Plan, pass, offset| -> Result<_> {
                    let dispatches = plan(&problem, &arguments(&problem, pass, offset), &LIMITS[0])?;
                    let Dispatch { kernel, params, .. } = &dispatches[0];
                    Ok((kernel.wide, (params.team, params.steps)))
                };
                for (plan, pass) in [(forward as Plan, Pass::Forward), (backward as Plan, Pass::Backward)] {
                    let (aligned, anywhere) = (order(plan, pass, 0)?, order(plan, pass, 4)?);
                    assert!(aligned.0 && !anywhere.0, "{op} {dtype} {cols}");
                    assert_eq!(aligned.1, anywhere.1, "{op} {dtype} {cols}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_rows_of_a_chunk_can_be_bound_at_once() -> Result<()> {
    for op in Op::ALL {
        for power in 2..26 {
            // Not a power of two: a number of rows that is none fits.
            let stride = (1_usize << power) + (1 << power) / 3;
            let problem = Problem::new(op, 1 << 20, 4).row_stride(stride).build()?;
            for limits in LIMITS {
                let rows = Tiling::backward(&problem, false, &limits).chunk_rows(&problem);
                let bytes = rows * stride as u64 * 4;
                assert!(rows == 1 || bytes <= limits.chunk_bytes(), "{op} {stride}: {rows} rows");
            }
        }
    }
    Ok(())
}
