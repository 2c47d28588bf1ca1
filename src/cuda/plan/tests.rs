use super::args::{
    NormBackwardOptions, NormForwardOptions, PointwiseBackward, PointwiseBackwardOptions, PointwiseForward,
    PointwiseForwardOptions,
};
use super::*;
use crate::{DType, Op, Result};

const ROWS: [usize; 9] = [1, 2, 7, 64, 255, 4096, 70_001, 1 << 20, 1 << 25];
const COLS: [usize; 12] = [1, 2, 3, 8, 17, 64, 768, 4096, 8192, 16_384, 65_536, 262_144];
/// Addresses that are aligned to 16 bytes, and some that are not.
const PLACES: [u64; 2] = [1 << 40, (1 << 40) + 4];

/// Every buffer at `place`, the workspace a tebibyte behind.
fn forward_at(place: u64) -> ForwardAddresses {
    let [x, alpha, shift, gamma, beta, y, mean, rstd] = [place; 8];
    ForwardAddresses { x, residual: 0, sum: 0, alpha, shift, gamma, beta, y, mean, rstd }
}

fn backward_at(place: u64) -> BackwardAddresses {
    let [dy, x, alpha, shift, gamma, mean, rstd, dx, dalpha, dshift, dgamma, dbeta] = [place; 12];
    let (dsum, workspace) = (0, 1 << 41);
    BackwardAddresses {
        dy,
        x,
        dsum,
        alpha,
        shift,
        gamma,
        mean,
        rstd,
        dx,
        dalpha,
        dshift,
        dgamma,
        dbeta,
        workspace,
    }
}

/// The launches of both passes, with every buffer.
fn launches(problem: &Problem, place: u64, limits: Limits) -> Vec<Launch> {
    let forward = forward(problem, &forward_at(place), limits);
    let backward = backward(problem, &backward_at(place), limits);
    forward.iter().chain(backward.iter()).copied().collect()
}

/// The same with a residual and dsum.
fn joined_launches(problem: &Problem, place: u64, limits: Limits) -> Vec<Launch> {
    let at = ForwardAddresses { residual: place, sum: place, ..forward_at(place) };
    let forward = forward(problem, &at, limits);
    let backward = backward(problem, &BackwardAddresses { dsum: place, ..backward_at(place) }, limits);
    forward.iter().chain(backward.iter()).copied().collect()
}

/// The threads that `__launch_bounds__` of the kernel allows.
fn most_threads(entry: Entry) -> u32 {
    match entry {
        Entry::Fold | Entry::Pointwise { .. } | Entry::Norm { form: NormForm::First, .. } => 256,
        // Those with options are the same or have more.
        Entry::Norm { pass: Pass::Forward, .. } => 1024,
        Entry::Norm { pass: Pass::Backward, .. } => 512,
    }
}

fn within_limits(launch: &Launch, limits: Limits) {
    let threads: u32 = launch.block.iter().product();
    assert!(launch.grid.iter().all(|&n| n > 0) && u64::from(launch.grid[0]) <= MAX_GRID, "{launch:?}");
    assert_eq!((launch.grid[1], launch.grid[2]), (1, 1), "{launch:?}");
    assert!(threads > 0 && threads.is_multiple_of(32), "{launch:?}");
    assert!(threads <= most_threads(launch.entry), "{launch:?}");
    // Only rows that shared memory keeps may need more than a device has without opting in.
    let long =
        matches!(launch.entry, Entry::Norm { form: NormForm::LongVector(_) | NormForm::LongOptions, .. });
    let most = if long { limits.shared_bytes } else { SHARED_WITHOUT_OPT_IN };
    assert!(launch.shared_bytes <= most, "{launch:?}");
}

/// `blocks` blocks of `each` cover `len` without an idle one.
fn covers(len: u64, blocks: u64, each: u64, launch: &Launch) {
    assert!(u128::from(blocks) * u128::from(each) >= len.into(), "{launch:?}");
    assert!((blocks - 1) * each < len, "{launch:?}");
}

/// Elements that a thread reads at once, of the type that the kernel is compiled for if it is for one.
fn width(problem: &Problem, launch: &Launch) -> u64 {
    let entry = launch.entry;
    assert!(entry.takes(problem.dtype()), "{entry:?}");
    match entry {
        Entry::Pointwise { form: PointwiseForm::Options, .. }
        | Entry::Norm { form: NormForm::Options | NormForm::OptionsF16 | NormForm::LongOptions, .. } => {
            match form(&launch.args) {
                0 => geometry::vector(problem.dtype()),
                _ => 1,
            }
        }
        Entry::Pointwise { form: PointwiseForm::Vector(dtype), .. }
        | Entry::Norm { form: NormForm::Vector(dtype) | NormForm::LongVector(dtype), .. } => {
            assert_eq!(dtype, problem.dtype(), "{entry:?}");
            geometry::vector(dtype)
        }
        Entry::Pointwise { form: PointwiseForm::Scalar, .. }
        | Entry::Norm { form: NormForm::Scalar | NormForm::LongScalar | NormForm::First, .. }
        | Entry::Fold => 1,
    }
}

/// `form` of the options.
fn form(args: &Args) -> u32 {
    match args {
        Args::PointwiseForwardOptions(args) => args.options.form,
        Args::PointwiseBackwardOptions(args) => args.options.form,
        Args::NormForwardOptions(args) => args.options.form,
        Args::NormBackwardOptions(args) => args.options.form,
        _ => unreachable!("{args:?}"),
    }
}

/// Every row and column belongs to one thread, by the arithmetic of the kernels.
fn covers_once(problem: &Problem, launch: &Launch) {
    let (x, y) = (u64::from(launch.block[0]), u64::from(launch.block[1]));
    let (blocks, rows) = (u64::from(launch.grid[0]), problem.total_rows() as u64);
    let width = width(problem, launch);
    match launch.args {
        Args::PointwiseBackwardOptions(PointwiseBackwardOptions { plain, options }) => {
            let of_group = options.group_chunks;
            assert_eq!(blocks, u64::from(plain.slabs) * of_group * options.groups, "{launch:?}");
            covers(plain.len, plain.slabs.into(), x * width, launch);
            covers(options.group_rows, of_group, y * u64::from(plain.steps), launch);
        }
        Args::PointwiseForwardOptions(PointwiseForwardOptions {
            plain: PointwiseForward { slabs, steps, len, .. },
            ..
        })
        | Args::PointwiseForward(PointwiseForward { slabs, steps, len, .. })
        | Args::PointwiseBackward(PointwiseBackward { slabs, steps, len, .. }) => {
            assert!(blocks.is_multiple_of(slabs.into()) && len.is_multiple_of(width), "{launch:?}");
            covers(len, slabs.into(), x * width, launch);
            covers(rows, blocks / u64::from(slabs), y * u64::from(steps), launch);
        }
        Args::NormForward(_) | Args::NormForwardOptions(_) => norm_covers_once(problem, launch, 1, 4 * width),
        Args::NormBackward(args) | Args::NormBackwardOptions(NormBackwardOptions { plain: args, .. }) => {
            norm_covers_once(problem, launch, args.steps.into(), if width > 1 { 16 } else { 4 });
        }
        Args::Fold(_) => {}
    }
}

/// Those of a norm: a block has `steps` lines of work, a thread of a short row keeps `kept` columns.
fn norm_covers_once(problem: &Problem, launch: &Launch, steps: u64, kept: u64) {
    let Entry::Norm { pass, form, .. } = launch.entry else { unreachable!("{launch:?}") };
    let (x, y) = (u64::from(launch.block[0]), u64::from(launch.block[1]));
    let (groups, rows) = match pass {
        Pass::Forward => (1, problem.total_rows() as u64),
        Pass::Backward => (problem.param_groups() as u64, problem.param_rows() as u64),
    };
    let blocks = u64::from(launch.grid[0]);
    assert!(blocks.is_multiple_of(groups), "{launch:?}");
    let blocks = blocks / groups;
    let lines = match problem.inner() {
        1 => rows.div_ceil(y),
        inner => rows * (inner as u64).div_ceil(32),
    };
    // What a grid of a forward does not reach, its blocks take in turns.
    if pass == Pass::Backward || blocks < MAX_GRID {
        covers(lines, blocks, steps, launch);
    }
    if matches!(form, NormForm::Vector(_) | NormForm::Scalar | NormForm::Options | NormForm::OptionsF16) {
        assert!(problem.inner() == 1 && kept * x >= problem.cols() as u64, "{launch:?}");
        assert!(x <= 32 && x.is_power_of_two() || x.is_multiple_of(32), "{launch:?}");
    }
}

/// The kernels learn the storage types that the problem has.
fn storage_is_told(problem: &Problem, launch: &Launch) {
    let dtype = [DType::F32, DType::F16, DType::Bf16].iter().position(|&dtype| dtype == problem.dtype());
    let param_f32 = u32::from(problem.param_dtype() == DType::F32);
    let told = match launch.args {
        Args::PointwiseForward(args) => (args.dtype, args.param_f32),
        Args::PointwiseBackward(args) => (args.dtype, args.param_f32),
        Args::NormForward(args) | Args::NormForwardOptions(NormForwardOptions { plain: args, .. }) => {
            (args.dtype, args.param_f32)
        }
        Args::NormBackward(args) | Args::NormBackwardOptions(NormBackwardOptions { plain: args, .. }) => {
            (args.dtype.into(), args.param_f32.into())
        }
        Args::PointwiseForwardOptions(args) => (args.plain.dtype, args.plain.param_f32),
        Args::PointwiseBackwardOptions(args) => (args.plain.dtype, args.plain.param_f32),
        Args::Fold(_) => return,
    };
    assert_eq!((Some(told.0 as usize), told.1), (dtype, param_f32), "{launch:?}");
}

/// The partial sums lie in the workspace, apart from one another, and the fold reads what the first stage wrote.
fn sums_have_room(problem: &Problem, list: &[Launch]) {
    let begin = backward_at(0).workspace;
    let end = begin + workspace_bytes(problem, Pass::Backward) as u64;
    let Some(Args::Fold(fold)) = list.last().map(|launch| launch.args) else { return };
    let columns = fold.pieces * fold.chunks * fold.groups * 4;
    let mut spans = vec![(fold.dgamma_partials, columns), (fold.dbeta_partials, columns)];
    if problem.op().is_pointwise() {
        spans.push((fold.dalpha_partials, fold.scalars * 4));
    }
    if problem.op().has_shift() {
        spans.push((fold.dshift_partials, fold.scalars * 4));
    }
    // A sum that is complete is the gradient.
    spans.retain(|(at, _)| *at >= begin);
    spans.sort_unstable();
    for pair in spans.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{problem:?} {fold:?}");
    }
    assert!(spans.iter().all(|(at, bytes)| at + bytes <= end), "{problem:?} {fold:?}");
}

fn check(problem: &Problem) {
    for place in PLACES {
        for limits in [Limits::BASELINE, Limits { shared_bytes: 232_448 }] {
            for list in [launches(problem, place, limits), joined_launches(problem, place, limits)] {
                for launch in &list {
                    within_limits(launch, limits);
                    covers_once(problem, launch);
                    storage_is_told(problem, launch);
                    assert_eq!(launch.args.as_bytes().len(), launch.entry.args_bytes());
                }
                sums_have_room(problem, &list);
            }
        }
    }
}

#[test]
fn every_row_and_column_is_covered_once_within_the_limits() -> Result<()> {
    for op in Op::ALL {
        for dtype in DType::ALL {
            for rows in ROWS {
                for cols in COLS {
                    check(&Problem::new(op, rows, cols).dtype(dtype).build()?);
                    check(&Problem::new(op, rows, cols).dtype(dtype).param_dtype(DType::F32).build()?);
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
        check(&Problem::new(op, 33, cols).dtype(DType::ALL[cols % 3]).build()?);
    }
    Ok(())
}

#[test]
fn channels_first_data_is_covered_once() -> Result<()> {
    for op in Op::ALL {
        for (rows, cols, inner) in
            [(1, 1, 2), (256, 768, 49), (3, 65, 5), (2, 4096, 3136), (1, 3, 1 << 28), (1 << 31, 1, 2)]
        {
            check(&Problem::new(op, rows, cols).inner(inner).dtype(DType::Bf16).build()?);
        }
    }
    Ok(())
}

#[test]
fn problems_of_2_31_and_2_33_elements_fit_a_grid() -> Result<()> {
    for op in Op::ALL {
        for power in [31_u32, 33] {
            for cols in [1_usize, 2, 128, 4096, 262_144] {
                let rows = (1_usize << power) / cols;
                for (rows, cols) in [(rows, cols), (rows - 1, cols), (rows + 1, cols)] {
                    check(&Problem::new(op, rows, cols).build()?);
                    check(&Problem::new(op, rows, cols).row_stride(cols + 3).build()?);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn heads_and_groups_are_covered_once() -> Result<()> {
    for op in Op::ALL {
        for (rows, heads, cols, param_rows) in
            [(1, 3, 64, 1), (70, 12, 128, 12), (4096, 8, 65, 64), (33, 2, 4096, 33), (3, 1, 65_536, 1)]
        {
            let packed = Problem::new(op, rows, cols).row_stride(3 * heads * cols).heads(heads, cols);
            check(&packed.build()?);
            check(&packed.y_strides(heads * cols, cols).build()?);
            check(&packed.param_rows(param_rows).dtype(DType::Bf16).build()?);
            check(&Problem::new(op, rows * heads, cols).param_rows(param_rows).build()?);
            check(&Problem::new(op, rows * heads, cols).inner(35).param_rows(param_rows).build()?);
        }
    }
    Ok(())
}

/// Heads that lie next to one another are rows.
#[test]
fn packed_heads_are_plain_rows() -> Result<()> {
    for op in Op::ALL {
        let problem = Problem::new(op, 128, 64).heads(12, 64).build()?;
        let rows = Problem::new(op, 128 * 12, 64).build()?;
        let of = |problem| launches(problem, PLACES[0], Limits::BASELINE);
        assert_eq!(of(&problem), of(&rows));
    }
    Ok(())
}

#[test]
fn no_rows_leave_only_the_sums() -> Result<()> {
    for op in Op::ALL {
        let problem = Problem::new(op, 0, 17).build()?;
        assert_eq!(workspace_bytes(&problem, Pass::Backward), 0);
        assert_eq!(forward(&problem, &forward_at(PLACES[0]), Limits::BASELINE).iter().count(), 0);
        let backward = backward(&problem, &backward_at(PLACES[0]), Limits::BASELINE);
        let entries: Vec<_> = backward.iter().map(|launch| launch.entry).collect();
        assert_eq!(entries, [Entry::Fold]);
    }
    Ok(())
}

#[test]
fn a_small_problem_needs_no_second_stage() -> Result<()> {
    for op in Op::ALL {
        let problem = Problem::new(op, 1, 128).build()?;
        assert_eq!(launches(&problem, PLACES[0], Limits::BASELINE).len(), 2, "{op}");
        let added = Problem::new(op, 1, 128).accumulate(true).build()?;
        assert_eq!(launches(&added, PLACES[0], Limits::BASELINE).len(), 3, "{op}");
    }
    Ok(())
}

#[test]
fn gradients_that_are_not_asked_for_need_no_launch() -> Result<()> {
    let problem = Problem::new(Op::Derf, 4096, 1024).build()?;
    let at = BackwardAddresses { dalpha: 0, dshift: 0, dgamma: 0, dbeta: 0, ..backward_at(PLACES[0]) };
    let list: Vec<_> = backward(&problem, &at, Limits::BASELINE).iter().copied().collect();
    assert_eq!(list.len(), 1);
    let Args::PointwiseBackward(args) = list[0].args else { unreachable!("the first stage of Derf") };
    assert_eq!((args.dgamma, args.dbeta, args.dalpha, args.dshift), (0, 0, 0, 0));
    Ok(())
}

#[test]
fn partial_sums_are_a_small_part_of_the_traffic() -> Result<()> {
    for op in Op::ALL {
        for (rows, cols) in [(8192, 4096), (1 << 20, 128), (32_768, 1024), (1 << 25, 1)] {
            let problem = Problem::new(op, rows, cols).build()?;
            let traffic = 3 * problem.elements() * problem.dtype().size();
            let partials = workspace_bytes(&problem, Pass::Backward);
            assert!(partials * 40 <= traffic, "{op} {rows} × {cols}: {partials} of {traffic}");
        }
    }
    Ok(())
}

#[test]
fn chunks_do_not_depend_on_the_machine() -> Result<()> {
    for op in Op::ALL {
        let problem = Problem::new(op, 777, 65_536).dtype(DType::Bf16).build()?;
        let [small, large] = [48 << 10, 227 << 10].map(|shared_bytes| {
            launches(&problem, PLACES[0], Limits { shared_bytes })
                .iter()
                .map(|launch| (launch.entry, launch.grid, launch.block))
                .collect::<Vec<_>>()
        });
        assert_eq!(small, large);
    }
    Ok(())
}
