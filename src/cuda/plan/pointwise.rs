//! DyT and Derf. A thread owns the same few positions of every row that it takes, so that gamma stays in registers.

use super::args::{
    Options, PointwiseBackward, PointwiseBackwardOptions, PointwiseForward, PointwiseForwardOptions, Storage,
    offset,
};
use super::fold::Partials;
use super::geometry::{THREADS, WARP, aligned, block, floor_power, grid, vector};
use super::options::{Chunks, Rows};
use super::{Args, BackwardAddresses, Entry, ForwardAddresses, Launch, MAX_GRID, Pointwise, PointwiseForm};
use crate::{Pass, Problem};

/// Blocks that keep a large GPU busy for several waves.
const FORWARD_BLOCKS: u64 = 2048;
/// Rows that a thread of the forward takes at most, unless the grid would be too large.
const FORWARD_STEPS: u64 = 8;
/// As above, of the backward, whose sums cost traffic for each block, times the elements of a thread: for 16 bits, which
/// are computed more than moved, fewer blocks are worth it.
const BACKWARD_BLOCKS: u64 = 4096;
/// Rows that add to one sum of a thread.
const BACKWARD_STEPS: u64 = 32;
/// Threads along a row of the backward at most.
const BACKWARD_X: u64 = WARP;
/// The same of few rows at least: 128 bytes of a row are still read at once.
const NARROW_X: u64 = 8;
/// Up to this many rows a thread, one chunk of rows is worth more than several blocks.
const SINGLE_CHUNK_STEPS: u64 = 8;
/// Least rows a thread where there are several chunks.
const LEAST_STEPS: u64 = 4;
/// Loads of x and of dy that a thread of the backward keeps on their way.
const STAGES: u64 = 4;

fn entry(op: Pointwise, problem: &Problem, pass: Pass, vectors: bool, rows: Rows) -> Entry {
    let form = match (rows.options, vectors) {
        (Some(_), _) => PointwiseForm::Options,
        (None, true) => PointwiseForm::Vector(problem.dtype()),
        (None, false) => PointwiseForm::Scalar,
    };
    Entry::Pointwise { op, pass, form }
}

/// `form` of the options: `FORM_VECTOR` or `FORM_SCALAR`.
const fn form(vectors: bool) -> u32 {
    if vectors { 0 } else { 1 }
}

/// How blocks lie over rows and positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiling {
    /// Threads along a row and across rows.
    pub(super) threads: (u64, u64),
    /// Elements of a thread.
    pub(super) width: u64,
    /// Blocks along a row.
    pub(super) slabs: u64,
    /// Rows of a thread.
    pub(super) steps: u64,
    /// Blocks across rows.
    pub(super) chunks: Chunks,
}

impl Tiling {
    /// A chunk has rows of one of `groups` groups of `of_group` rows.
    fn new(
        problem: &Problem,
        width: u64,
        widest: u64,
        [groups, of_group]: [u64; 2],
        steps: impl Fn(u64) -> u64,
    ) -> Self {
        let (rows, len) = (problem.total_rows() as u64, problem.row_len() as u64);
        let vectors = len.div_ceil(width);
        let x = vectors.next_power_of_two().min(widest);
        let y = match groups {
            1 => THREADS / x,
            // Whole warps, of which few threads have no row.
            _ => (THREADS / x).min(of_group.next_power_of_two()).max(WARP.div_ceil(x)),
        };
        let slabs = vectors.div_ceil(x);
        // Rows of all slabs for each row of a block's threads.
        let mut steps =
            steps(u64::try_from(u128::from(rows) * u128::from(slabs) / u128::from(y)).unwrap_or(u64::MAX));
        let chunks = |steps| Chunks { groups, of_group: of_group.div_ceil(y * steps) };
        while chunks(steps).all() * slabs > MAX_GRID && chunks(steps).of_group > 1 {
            steps *= 2;
        }
        Self { threads: (x, y), width, slabs, steps, chunks: chunks(steps) }
    }

    pub(super) fn forward(problem: &Problem, vectors: bool) -> Self {
        let width = if vectors { vector(problem.dtype()) } else { 1 };
        let rows = problem.total_rows() as u64;
        Self::new(problem, width, THREADS, [1, rows], |rows| {
            floor_power(rows / FORWARD_BLOCKS).min(FORWARD_STEPS)
        })
    }

    pub(super) fn backward(problem: &Problem, vectors: bool) -> Self {
        let width = if vectors { vector(problem.dtype()) } else { 1 };
        let rows = problem.total_rows() as u64;
        // Few rows that make one chunk are spread over more blocks by narrower ones.
        let widest = match rows <= THREADS / NARROW_X * SINGLE_CHUNK_STEPS {
            true => (THREADS / rows.max(1).next_power_of_two()).clamp(NARROW_X, BACKWARD_X),
            false => BACKWARD_X,
        };
        let x = (problem.row_len() as u64).div_ceil(width).next_power_of_two().min(widest);
        let groups = [problem.param_groups() as u64, problem.param_rows() as u64];
        Self::new(problem, width, widest, groups, |all| {
            if rows <= THREADS / x * SINGLE_CHUNK_STEPS {
                SINGLE_CHUNK_STEPS
            } else {
                floor_power(all / (BACKWARD_BLOCKS / width.max(4))).clamp(LEAST_STEPS, BACKWARD_STEPS)
            }
        })
    }

    const fn blocks(&self) -> u64 {
        self.slabs * self.chunks.all()
    }

    /// Positions of a slab.
    const fn slab(&self) -> u64 {
        self.threads.0 * self.width
    }

    /// Partial sums of a chunk: one for each column, and one more wherever a slab ends inside of one.
    const fn pieces(&self, problem: &Problem) -> u64 {
        let cols = problem.cols() as u64;
        if problem.inner() == 1 { cols } else { cols + self.slabs - 1 }
    }

    /// f32 values of all partial sums: dgamma, dbeta, dalpha, dshift.
    const fn partial_len(&self, problem: &Problem) -> u64 {
        2 * (self.chunks.all() * self.pieces(problem) + self.blocks())
    }
}

pub(super) fn forward(op: Pointwise, problem: &Problem, at: &ForwardAddresses) -> Launch {
    let vectors = aligned(problem, &[at.x, at.residual, at.sum, at.y], &[at.gamma, at.beta]);
    let tiling = Tiling::forward(problem, vectors);
    let rows = Rows::of(problem, at.residual, at.sum);
    let (storage, (gamma_offset, has_offset)) = (Storage::of(problem), offset(problem, at.gamma));
    #[expect(clippy::cast_possible_truncation, reason = "a grid's blocks fit 31 bits")]
    let args = PointwiseForward {
        x: at.x,
        y: at.y,
        gamma: at.gamma,
        beta: at.beta,
        alpha: at.alpha,
        shift: at.shift,
        rows: problem.total_rows() as u64,
        len: problem.row_len() as u64,
        row_stride: rows.stride,
        inner: problem.inner() as u64,
        slabs: tiling.slabs as u32,
        steps: tiling.steps as u32,
        dtype: storage.dtype,
        param_f32: storage.param_f32,
        gamma_offset,
        has_offset,
    };
    Launch {
        entry: entry(op, problem, Pass::Forward, vectors, rows),
        grid: grid(tiling.blocks()),
        block: block(tiling.threads.0, tiling.threads.1),
        shared_bytes: 0,
        args: match rows.options {
            None => Args::PointwiseForward(args),
            Some(options) => {
                let options = Options { form: form(vectors), ..options };
                Args::PointwiseForwardOptions(PointwiseForwardOptions { plain: args, options })
            }
        },
    }
}

/// The first stage, if there are rows, and where its sums are.
pub(super) fn backward(
    op: Pointwise,
    problem: &Problem,
    at: &BackwardAddresses,
) -> (Option<Launch>, Partials) {
    let vectors = aligned(problem, &[at.dy, at.x, at.dsum, at.dx], &[at.gamma]);
    let tiling = Tiling::backward(problem, vectors);
    let rows = Rows::of(problem, at.dsum, 0);
    let partials = partials(problem, at, &tiling);
    if problem.rows() == 0 {
        return (None, partials);
    }
    let (storage, (gamma_offset, has_offset)) = (Storage::of(problem), offset(problem, at.gamma));
    #[expect(clippy::cast_possible_truncation, reason = "a grid's blocks fit 31 bits")]
    let args = PointwiseBackward {
        dy: at.dy,
        x: at.x,
        dx: at.dx,
        gamma: at.gamma,
        alpha: at.alpha,
        shift: at.shift,
        dgamma: partials.dgamma,
        dbeta: partials.dbeta,
        dalpha: partials.dalpha,
        dshift: partials.dshift,
        rows: problem.total_rows() as u64,
        len: problem.row_len() as u64,
        row_stride: rows.stride,
        inner: problem.inner() as u64,
        pieces: partials.pieces,
        slabs: tiling.slabs as u32,
        steps: tiling.steps as u32,
        dtype: storage.dtype,
        param_f32: storage.param_f32,
        gamma_offset,
        has_offset,
    };
    let launch = Launch {
        entry: entry(op, problem, Pass::Backward, vectors, rows),
        grid: grid(tiling.blocks()),
        block: block(tiling.threads.0, tiling.threads.1),
        shared_bytes: shared_bytes(&tiling),
        args: match rows.options {
            None => Args::PointwiseBackward(args),
            Some(options) => {
                let group_chunks = tiling.chunks.of_group;
                let options = Options { form: form(vectors), group_chunks, ..options };
                Args::PointwiseBackwardOptions(PointwiseBackwardOptions { plain: args, options })
            }
        },
    };
    (Some(launch), partials)
}

/// The ring of loads, and in its place, once the rows are done, two sums for each position of each thread, with a column
/// of padding.
#[expect(clippy::cast_possible_truncation, reason = "32 KiB at most")]
const fn shared_bytes(tiling: &Tiling) -> u32 {
    let (x, y) = tiling.threads;
    let exchange = 2 * 4 * y * (x * tiling.width + 1);
    let ring = if tiling.width == 1 { 0 } else { STAGES * 2 * 16 * THREADS };
    if ring > exchange { ring as u32 } else { exchange as u32 }
}

/// Where the sums go: to the gradients themselves where nothing is left to add, else to the workspace.
fn partials(problem: &Problem, at: &BackwardAddresses, tiling: &Tiling) -> Partials {
    let (pieces, chunks, scalars) = (tiling.pieces(problem), tiling.chunks, tiling.blocks());
    let columns = problem.inner() == 1 && chunks.of_group == 1;
    let slab = if problem.inner() == 1 { 0 } else { tiling.slab() };
    Partials::new(problem, at, [columns, scalars == 1], slab, pieces, chunks, scalars)
}

/// f32 values of the workspace, by vectors or not.
pub(super) fn partial_len(problem: &Problem) -> usize {
    let len = |vectors| Tiling::backward(problem, vectors).partial_len(problem);
    let scalar = len(false);
    // A problem whose rows hold no whole vectors is never gone through by vectors.
    let v = vector(problem.dtype()) as usize;
    let longest = if problem.row_len().is_multiple_of(v) { scalar.max(len(true)) } else { scalar };
    usize::try_from(longest).unwrap_or(usize::MAX)
}
