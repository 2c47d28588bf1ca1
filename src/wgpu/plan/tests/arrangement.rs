//! Heads, strides of y and parameters that change with the row, by the arithmetic of the kernels.

use super::super::portion::{Most, Portion};
use super::*;

/// `begins` of `shaders/lib/place.wgsl`.
fn begins(params: &Params, row: u32) -> [u32; 2] {
    let Params { row_stride, head_stride, y_row_stride, y_head_stride, heads, first_head, .. } = *params;
    if heads == 1 {
        return [row * row_stride, row * y_row_stride];
    }
    let (token, head) = ((row + first_head) / heads, (row + first_head) % heads);
    let head = head.wrapping_sub(first_head);
    [(row_stride, head_stride), (y_row_stride, y_head_stride)]
        .map(|(row, step)| (token * row).wrapping_add(head.wrapping_mul(step)))
}

/// `chunk_of`.
fn chunk_of(params: &Params, chunk: u32, each: u32) -> core::ops::Range<u32> {
    if params.group_chunks == 0 {
        return chunk * each..params.rows.min((chunk + 1) * each);
    }
    let begin = chunk / params.group_chunks * params.group_rows;
    let first = begin + chunk % params.group_chunks * each;
    first..(begin + params.group_rows).min(first + each)
}

/// `columns_of` by rows of gamma.
fn gamma_of(params: &Params, row: u32) -> u32 {
    row.checked_div(params.group_rows).unwrap_or(0)
}

/// The rows of a workgroup that share what a lane has of gamma.
fn lanes(dispatch: &Dispatch, workgroup: u32) -> Vec<Vec<u32>> {
    let params = &dispatch.params;
    let Params { team, steps, slabs, inner, .. } = *params;
    let teams = 256 / team;
    let apart = |rows: core::ops::Range<u32>| {
        (0..teams).map(|team| rows.clone().skip(team as usize).step_by(teams as usize).collect()).collect()
    };
    match dispatch.kernel.body {
        Body::Pointwise { .. } => apart(chunk_of(params, workgroup / slabs, teams * steps)),
        Body::Norm { form: Form::First, pass, .. } => {
            let tiles = inner.div_ceil(32);
            match (pass, slabs) {
                (Pass::Forward, _) => vec![vec![workgroup / tiles]],
                // A position looks for its gamma itself; the sums of the chunk are those of its rows.
                (Pass::Backward, 0) => vec![chunk_of(params, workgroup, steps / tiles).collect()],
                (Pass::Backward, slabs) => vec![vec![workgroup / slabs]],
            }
        }
        Body::Norm { .. } => apart(chunk_of(params, workgroup, teams * steps)),
        Body::Quantised { first, .. } => {
            vec![vec![if first { workgroup / inner.div_ceil(32) } else { workgroup }]]
        }
        Body::Fold => Vec::new(),
    }
}

/// How often a row is met: once by each workgroup that has a part of it.
fn times(problem: &Problem, dispatch: &Dispatch) -> usize {
    let params = &dispatch.params;
    match dispatch.kernel.body {
        Body::Norm { form: Form::First, pass: Pass::Forward, .. } => problem.inner().div_ceil(32),
        Body::Quantised { first: true, .. } => problem.inner().div_ceil(32),
        Body::Norm { form: Form::First, .. } => params.slabs.max(1) as usize,
        Body::Pointwise { .. } => params.slabs as usize,
        Body::Norm { .. } | Body::Quantised { .. } | Body::Fold => 1,
    }
}

/// The first element of a row in a slot's argument, and one past its last, by what is bound.
fn reached(problem: &Problem, dispatch: &Dispatch, slot: Slot, row: u32) -> Option<(u64, u64)> {
    let bound = binding(dispatch, slot)?;
    let params = &dispatch.params;
    let [x, y] = begins(params, row);
    let (start, begin) = match slot {
        Slot::Out if dispatch.kernel.body.pass() == Pass::Forward => (params.out_start, y),
        Slot::Out => (params.out_start, x),
        Slot::Dy => (params.dy_start, y),
        _ => (params.x_start, x),
    };
    let size = problem.dtype().size() as u64;
    let first = bound.start + u64::from(start + begin) * size;
    let end = first + problem.row_len() as u64 * size;
    assert!(end <= bound.start + bound.bytes, "{slot:?} of row {row}: {dispatch:?}");
    Some((first, end))
}

/// Each row is met as often as it has parts, where the layouts say, with its own gamma; its records go to its own dgamma.
fn covers_rows(problem: &Problem, pass: Pass, offset: u64, dispatches: &[Dispatch]) {
    let (size, param_size) = (problem.dtype().size() as u64, problem.param_dtype().size() as u64);
    let mut met = vec![0; problem.total_rows()];
    let (mut first, mut records) = (0, Vec::new());
    for dispatch in dispatches.iter().filter(|dispatch| !is_fold(dispatch)) {
        let params = &dispatch.params;
        let gamma = binding(dispatch, Slot::Gamma).expect("gamma is bound");
        for workgroup in 0..params.workgroups {
            let lanes = lanes(dispatch, workgroup);
            let rows = lanes.iter().flatten().copied();
            let groups: Vec<_> =
                rows.clone().map(|row| (first + row as usize) / problem.param_rows()).collect();
            assert!(!groups.is_empty(), "workgroup {workgroup} has no rows: {dispatch:?}");
            if pass == Pass::Backward {
                assert!(groups.iter().all(|group| *group == groups[0]), "{groups:?}: {dispatch:?}");
                // Workgroups of one chunk share a record.
                let pointwise = matches!(dispatch.kernel.body, Body::Pointwise { .. });
                if !pointwise || workgroup % params.slabs == 0 {
                    records.push(groups[0]);
                }
            }
            for lane in lanes.iter().filter(|lane| !lane.is_empty()) {
                let columns = u64::from(gamma_of(params, lane[0]) * params.cols + params.gamma_start);
                let begin = gamma.start + columns * param_size;
                for row in lane {
                    let row = first + *row as usize;
                    let group = row / problem.param_rows();
                    let expected = offset + (group * problem.cols()) as u64 * param_size;
                    assert_eq!(begin, expected, "gamma of row {row}: {dispatch:?}");
                    met[row] += 1;
                }
                assert!(begin + problem.cols() as u64 * param_size <= gamma.start + gamma.bytes);
            }
        }
        for row in 0..params.rows {
            let all = first + row as usize;
            assert_eq!(met[all], times(problem, dispatch), "row {all}: {dispatch:?}");
            let (x, y) = (problem.layout().row(all) as u64, problem.y_layout().row(all) as u64);
            let out = if pass == Pass::Forward { y } else { x };
            for (slot, at) in [(Slot::X, x), (Slot::Dy, y), (Slot::Out, out)] {
                if let Some((begin, _)) = reached(problem, dispatch, slot, row) {
                    assert_eq!(begin, offset + at * size, "{slot:?} of row {all}: {dispatch:?}");
                    assert!(!dispatch.kernel.wide || begin.is_multiple_of(16), "{dispatch:?}");
                }
            }
        }
        first += params.rows as usize;
    }
    assert_eq!(first, problem.total_rows());
    folds_by_groups(problem, offset, dispatches, &records);
}

/// `records` has the group of each record, in their order.
fn folds_by_groups(problem: &Problem, offset: u64, dispatches: &[Dispatch], records: &[usize]) {
    let mut folded = 0;
    let mut begun = vec![false; problem.param_groups()];
    for dispatch in dispatches.iter().filter(|dispatch| is_fold(dispatch)) {
        let params = &dispatch.params;
        let dgamma = binding(dispatch, Slot::Dgamma).expect("dgamma is bound");
        let begin = dgamma.start + u64::from(params.dgamma_start) * 4 - offset;
        let row = begin / (4 * u64::from(params.cols));
        assert_eq!(begin % (4 * u64::from(params.cols)), 0, "{dispatch:?}");
        for group in 0..params.groups as usize {
            for _ in 0..params.chunks {
                assert_eq!(records[folded], row as usize + group, "record {folded}: {dispatch:?}");
                folded += 1;
            }
            let adds = params.flags & flag::ACCUMULATE != 0;
            assert_eq!(adds, begun[row as usize + group], "{dispatch:?}");
            begun[row as usize + group] = true;
        }
        let end = begin + u64::from(params.groups) * u64::from(params.cols) * 4;
        assert!(offset + end <= dgamma.start + dgamma.bytes, "{dispatch:?}");
    }
    assert_eq!(folded, records.len(), "{problem:?}");
}

/// The devices of the other tests, and two that bind very little.
fn limits() -> impl Iterator<Item = Limits> {
    let little = [1 << 14, 1 << 16].map(|binding| Limits { binding, ..LIMITS[2] });
    LIMITS.into_iter().chain(little)
}

fn check_rows(problem: &Problem) -> Result<()> {
    for limits in limits().filter(|limits| can_be_bound(problem, limits)) {
        for offset in OFFSETS {
            for pass in Pass::ALL {
                let at = arguments(problem, pass, offset);
                let dispatches = match pass {
                    Pass::Forward => forward(problem, &at, &limits)?,
                    Pass::Backward => backward(problem, &at, &limits)?,
                };
                dispatches.iter().for_each(|dispatch| within_limits(dispatch, &limits));
                covers_rows(problem, pass, offset, &dispatches);
                if pass == Pass::Backward {
                    records_are_written_and_read(problem, offset, &dispatches, &limits);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn rows_of_heads_lie_where_their_layouts_say() -> Result<()> {
    for op in Op::ALL {
        for (tokens, heads, cols) in
            [(3, 2, 5), (50, 8, 64), (1, 7, 128), (333, 12, 64), (2, 400, 24), (40, 3, 1000)]
        {
            for (head_gap, gap) in [(0, 0), (0, 2 * heads * cols), (3, 0), (8, 16), (0, 40_000)] {
                let head = cols + head_gap;
                let problem =
                    Problem::new(op, tokens, cols).heads(heads, head).row_stride(heads * head + gap);
                check_rows(&problem.build()?)?;
                check_rows(&problem.y_strides(heads * cols, cols).dtype(DType::Bf16).build()?)?;
                check_rows(&problem.y_strides(heads * cols + 5, cols).param_rows(heads).build()?)?;
            }
        }
    }
    Ok(())
}

#[test]
fn rows_have_the_parameters_of_their_group() -> Result<()> {
    for op in Op::ALL {
        for (rows, param_rows) in
            [(6, 1), (6, 2), (3000, 1), (3000, 3), (3000, 1500), (5 * 197, 197), (12_000, 500), (4096, 64)]
        {
            for cols in [1, 8, 40, 768] {
                let problem = Problem::new(op, rows, cols).param_rows(param_rows);
                check_rows(&problem.build()?)?;
                check_rows(&problem.dtype(DType::F16).y_strides(cols + 3, 0).build()?)?;
            }
        }
        for (rows, param_rows, cols, inner) in
            [(64, 1, 3, 49), (64, 4, 5, 3), (600, 100, 4, 2), (8, 2, 33, 300), (2000, 20, 1, 40)]
        {
            let problem = Problem::new(op, rows, cols).inner(inner).param_rows(param_rows);
            check_rows(&problem.build()?)?;
            check_rows(&problem.dtype(DType::Bf16).y_strides(cols * inner + 2, 0).build()?)?;
        }
    }
    Ok(())
}

/// One dispatch for any number of groups, where all can be bound.
#[test]
fn groups_are_no_dispatches() -> Result<()> {
    for op in Op::ALL {
        let problem = Problem::new(op, 4096, 768).param_rows(1).build()?;
        assert_eq!(forward(&problem, &arguments(&problem, Pass::Forward, 0), &LIMITS[0])?.len(), 1, "{op}");
        assert_eq!(backward(&problem, &arguments(&problem, Pass::Backward, 0), &LIMITS[0])?.len(), 2, "{op}");
    }
    Ok(())
}

#[test]
fn heads_that_are_equally_far_apart_are_rows() -> Result<()> {
    for op in Op::ALL {
        let heads = Problem::new(op, 512, 64).heads(12, 64).build()?;
        let rows = Problem::new(op, 512 * 12, 64).build()?;
        for (plan, pass) in [(forward as Plan, Pass::Forward), (backward as Plan, Pass::Backward)] {
            let at = arguments(&rows, pass, 0);
            assert_eq!(plan(&heads, &at, &LIMITS[0])?, plan(&rows, &at, &LIMITS[0])?, "{op}");
        }
    }
    Ok(())
}

#[test]
fn without_rows_there_are_no_groups() -> Result<()> {
    let problem = Problem::new(Op::Dyt, 0, 17).param_rows(4).build()?;
    let at = arguments(&problem, Pass::Backward, 0);
    let folds = backward(&problem, &at, &LIMITS[0])?;
    // dalpha is still the sum of nothing.
    assert_eq!(
        folds.iter().map(|fold| (fold.params.groups, fold.params.workgroups)).collect::<Vec<_>>(),
        [(0, 1)]
    );
    Ok(())
}

#[test]
fn more_heads_than_kernels_count_are_refused() -> Result<()> {
    let problem = Problem::new(Op::Dyt, 2, 1).heads(1 << 33, 1).row_stride((1 << 33) + 1).build()?;
    let refused = forward(&problem, &arguments(&problem, Pass::Forward, 0), &LIMITS[0]).err();
    assert!(matches!(refused, Some(Error::RowTooLarge { .. })), "{refused:?}");
    Ok(())
}

#[test]
fn portions_are_whole_groups_or_parts_of_one() {
    let all = Portion { first: 0, groups: 3, group: 10 };
    let cut = |groups, part| -> Vec<_> {
        all.cut(Most { groups, part }).map(|p| (p.first, p.groups, p.group)).collect()
    };
    assert_eq!(cut(2, 1), [(0, 2, 10), (20, 1, 10)]);
    assert_eq!(cut(9, 1), [(0, 3, 10)]);
    assert_eq!(cut(0, 6), [(0, 1, 6), (6, 1, 4), (10, 1, 6), (16, 1, 4), (20, 1, 6), (26, 1, 4)]);
    assert_eq!(cut(0, 60), [(0, 1, 10), (10, 1, 10), (20, 1, 10)]);
}
