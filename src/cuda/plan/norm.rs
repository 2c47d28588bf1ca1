//! LayerNorm and RMSNorm. A row stays in the registers of its threads where it fits.

use super::args::{
    NormBackward, NormBackwardOptions, NormForward, NormForwardOptions, Options, Storage, offset,
};
use super::fold::Partials;
use super::geometry::{THREADS, WARP, aligned, block, grid, vector};
use super::options::{Chunks, Rows};
use super::{
    Args, BackwardAddresses, Entry, ForwardAddresses, Launch, Limits, MAX_GRID, Norm, NormForm,
    SHARED_WITHOUT_OPT_IN,
};
use crate::{Pass, Problem, Std};

/// Vectors that a thread of the forward keeps.
const FORWARD_VECTORS: u64 = 4;
/// Threads of a block of the forward with several rows: rows in one block wait for one another.
const FORWARD_TOGETHER: u64 = 64;
/// Threads that share a row of the forward at most.
const FORWARD_THREADS: u64 = 1024;
/// Columns that a thread of the backward keeps by vectors: each has two sums.
const BACKWARD_COLUMNS: u64 = 16;
/// Columns that a thread of the backward keeps by elements.
const BACKWARD_SCALARS: u64 = 4;
/// Threads that share a row of the backward at most.
const BACKWARD_THREADS: u64 = 512;
/// Chunks of rows of a large problem.
const CHUNKS: u64 = 256;
/// Rows that add to one sum of a thread.
const MOST_STEPS: u64 = 32;
/// Tiles of channels-first data that add to one sum.
const MOST_TILES: u64 = 16;
/// Blocks of a channels-first backward that keep a large GPU busy.
const FIRST_BLOCKS: u64 = 1024;
/// Bytes of a warp's share of a reduction across warps: four sums, twice.
const SCRATCH: u64 = 32;

/// How blocks lie over rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiling {
    pub(super) form: NormForm,
    /// Threads along a row (channels-first: along `inner`) and across rows (along a row).
    pub(super) threads: (u64, u64),
    /// Columns that a thread keeps; 0 where it keeps none.
    pub(super) columns: u64,
    /// Rows of a thread, or tiles of a block.
    pub(super) steps: u64,
    /// Chunks of rows.
    pub(super) chunks: Chunks,
}

/// Tiles of a warp's positions along `inner` in a row of channels-first data.
const fn tiles(problem: &Problem) -> u64 {
    (problem.inner() as u64).div_ceil(WARP)
}

/// The threads of a row of `parts` parts, one for each thread: a power of two within a warp, else whole warps.
const fn row_threads(parts: u64) -> u64 {
    if parts <= WARP { parts.next_power_of_two() } else { parts.next_multiple_of(WARP) }
}

/// The form, the threads along and across rows, and the columns that a thread keeps.
fn form(problem: &Problem, pass: Pass, vectors: bool) -> (NormForm, (u64, u64), u64) {
    if problem.inner() > 1 {
        return (NormForm::First, (WARP, THREADS / WARP), 0);
    }
    let width = if vectors { vector(problem.dtype()) } else { 1 };
    let (columns, together, most) = match pass {
        Pass::Forward => (FORWARD_VECTORS * width, FORWARD_TOGETHER, FORWARD_THREADS),
        Pass::Backward => {
            (if vectors { BACKWARD_COLUMNS } else { BACKWARD_SCALARS }, THREADS, BACKWARD_THREADS)
        }
    };
    let threads = row_threads((problem.cols() as u64).div_ceil(columns));
    if threads > most {
        let form = if vectors { NormForm::LongVector(problem.dtype()) } else { NormForm::LongScalar };
        return (form, (most, 1), 0);
    }
    let form = if vectors { NormForm::Vector(problem.dtype()) } else { NormForm::Scalar };
    (form, (threads, (together / threads).max(1)), columns)
}

impl Tiling {
    pub(super) fn forward(problem: &Problem, vectors: bool, options: bool) -> Self {
        let (mut form, mut threads, mut columns) = form(problem, Pass::Forward, vectors);
        if options && form == NormForm::Scalar {
            // No kernel with options keeps the elements of a row.
            (form, threads, columns) = (NormForm::LongScalar, (threads.0.max(WARP), 1), 0);
        }
        let rows = problem.total_rows() as u64;
        let lines = if form.is_first() { rows * tiles(problem) } else { rows.div_ceil(threads.1) };
        // The kernels go on with the next row of the grid where it does not reach.
        Self { form, threads, columns, steps: 1, chunks: Chunks { groups: 1, of_group: lines.min(MAX_GRID) } }
    }

    pub(super) fn backward(problem: &Problem, vectors: bool) -> Self {
        let (form, mut threads, columns) = form(problem, Pass::Backward, vectors);
        let (groups, of_group) = (problem.param_groups() as u64, problem.param_rows() as u64);
        if groups != 1 && !form.is_first() {
            // Whole warps, of which few threads have no row.
            threads.1 = threads.1.min(of_group.next_power_of_two()).max(WARP.div_ceil(threads.0));
        }
        let (lines, blocks, most) = if form.is_first() {
            (of_group * tiles(problem), FIRST_BLOCKS, MOST_TILES)
        } else {
            (of_group.div_ceil(threads.1), CHUNKS, MOST_STEPS)
        };
        let mut steps = (groups * lines).div_ceil(blocks).clamp(1, most);
        let chunks = |steps| Chunks { groups, of_group: lines.div_ceil(steps) };
        while chunks(steps).all() > MAX_GRID && chunks(steps).of_group > 1 {
            steps *= 2;
        }
        Self { form, threads, columns, steps, chunks: chunks(steps) }
    }

    /// The entry of a pass with these rows.
    fn entry(&self, op: Norm, pass: Pass, rows: Rows) -> Entry {
        let form = if rows.options.is_some() { self.form.with_options(pass) } else { self.form };
        Entry::Norm { op, pass, form }
    }

    /// `form` of the options: `FORM_VECTOR`, `FORM_SCALAR`, `FORM_LONG_SCALAR` or `FORM_FIRST`.
    const fn code(&self) -> u32 {
        match self.form {
            NormForm::Scalar => 1,
            NormForm::LongScalar => 2,
            NormForm::First => 3,
            _ => 0,
        }
    }

    const fn thread_count(&self) -> u64 {
        self.threads.0 * self.threads.1
    }

    /// Of sums across the warps of a row, or of channels-first data across the threads of a position.
    const fn scratch(&self) -> u64 {
        if self.form.is_first() {
            self.thread_count() * 16
        } else if self.threads.0 <= WARP {
            0
        } else {
            self.thread_count() / WARP * SCRATCH
        }
    }

    /// Bytes of shared memory of a backward, and `cached` of its arguments. Neither decides bits.
    fn shared(&self, problem: &Problem, limits: Limits) -> (u64, u64) {
        let (scratch, exchange) = (self.scratch(), self.exchange());
        if matches!(self.form, NormForm::LongVector(_)) {
            let cached = cached(problem, self.form, scratch, 2, limits);
            return (scratch + 32 * cached, cached);
        }
        // The next row of dy and of x, in whose place the sums are exchanged afterwards.
        let row = 2 * self.thread_count() * self.columns * problem.dtype().size() as u64;
        let room = u64::from(limits.shared_bytes.min(SHARED_WITHOUT_OPT_IN));
        let vectors = matches!(self.form, NormForm::Vector(_));
        if vectors && self.steps > 1 && scratch + row.max(exchange) <= room {
            (scratch + row.max(exchange), 1)
        } else {
            (scratch + exchange, 0)
        }
    }

    /// Of the sums of columns across the rows of a block.
    const fn exchange(&self) -> u64 {
        if self.threads.1 == 1 { 0 } else { self.thread_count() * self.columns * 4 }
    }
}

/// How many vectors of `tensors` rows shared memory keeps beside `used` bytes.
fn cached(problem: &Problem, form: NormForm, used: u64, tensors: u64, limits: Limits) -> u64 {
    if !matches!(form, NormForm::LongVector(_)) {
        return 0;
    }
    let vectors = problem.cols() as u64 / vector(problem.dtype());
    let room = u64::from(limits.shared_bytes).saturating_sub(used);
    vectors.min(room / (16 * tensors))
}

/// Bessel's correction, cols/(cols − 1), in the unbiased form, else 0.
fn bessel(problem: &Problem) -> f32 {
    let cols = problem.cols() as f32;
    match problem.std() {
        Std::Biased => 0.0,
        Std::Unbiased => cols / (cols - 1.0),
    }
}

pub(super) fn forward(op: Norm, problem: &Problem, at: &ForwardAddresses, limits: Limits) -> Launch {
    let vectors = aligned(problem, &[at.x, at.residual, at.sum, at.y], &[at.gamma, at.beta]);
    let rows = Rows::of(problem, at.residual, at.sum);
    let tiling = Tiling::forward(problem, vectors, rows.options.is_some());
    let cached = cached(problem, tiling.form, tiling.scratch(), 1, limits);
    let (storage, (gamma_offset, has_offset)) = (Storage::of(problem), offset(problem, at.gamma));
    let cols = problem.cols() as f32;
    let args = NormForward {
        x: at.x,
        y: at.y,
        gamma: at.gamma,
        beta: at.beta,
        mean: at.mean,
        rstd: at.rstd,
        rows: problem.total_rows() as u64,
        cols: problem.cols() as u64,
        row_stride: rows.stride,
        inner: problem.inner() as u64,
        eps: problem.eps(),
        least_squares: problem.least_squares(),
        inverse_cols: 1.0 / cols,
        bessel: bessel(problem),
        cached,
        dtype: storage.dtype,
        param_f32: storage.param_f32,
        gamma_offset,
        has_offset,
    };
    Launch {
        entry: tiling.entry(op, Pass::Forward, rows),
        grid: grid(tiling.chunks.all()),
        block: block(tiling.threads.0, tiling.threads.1),
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the machine's limit")]
        shared_bytes: (tiling.scratch() + 16 * cached) as u32,
        args: match rows.options {
            None => Args::NormForward(args),
            Some(options) => {
                let options = Options { form: tiling.code(), ..options };
                Args::NormForwardOptions(NormForwardOptions { plain: args, options })
            }
        },
    }
}

/// The first stage, if there are rows, and where its sums are.
pub(super) fn backward(
    op: Norm,
    problem: &Problem,
    at: &BackwardAddresses,
    limits: Limits,
) -> (Option<Launch>, Partials) {
    let vectors = aligned(problem, &[at.dy, at.x, at.dsum, at.dx], &[at.gamma]);
    let rows = Rows::of(problem, at.dsum, 0);
    let tiling = Tiling::backward(problem, vectors);
    let complete = [tiling.chunks.of_group == 1, true];
    let partials = Partials::new(problem, at, complete, 0, problem.cols() as u64, tiling.chunks, 0);
    if problem.rows() == 0 {
        return (None, partials);
    }
    let (used, cached) = tiling.shared(problem, limits);
    let (storage, (gamma_offset, has_offset)) = (Storage::of(problem), offset(problem, at.gamma));
    let cols = problem.cols() as f32;
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the grid and by shared memory")]
    let args = NormBackward {
        dy: at.dy,
        x: at.x,
        dx: at.dx,
        gamma: at.gamma,
        mean: at.mean,
        rstd: at.rstd,
        dgamma: partials.dgamma,
        dbeta: partials.dbeta,
        rows: problem.total_rows() as u64,
        cols: problem.cols() as u64,
        row_stride: rows.stride,
        inner: problem.inner() as u64,
        eps: problem.eps(),
        least_squares: problem.least_squares(),
        inverse_cols: 1.0 / cols,
        bessel: bessel(problem),
        steps: tiling.steps as u32,
        cached: cached as u32,
        gamma_offset,
        dtype: storage.dtype as u8,
        param_f32: storage.param_f32 as u8,
        has_offset: has_offset as u16,
    };
    let launch = Launch {
        entry: tiling.entry(op, Pass::Backward, rows),
        grid: grid(tiling.chunks.all()),
        block: block(tiling.threads.0, tiling.threads.1),
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the machine's limit")]
        shared_bytes: used as u32,
        args: match rows.options {
            None => Args::NormBackward(args),
            Some(options) => {
                let group_chunks = tiling.chunks.of_group;
                let options = Options { form: tiling.code(), group_chunks, ..options };
                Args::NormBackwardOptions(NormBackwardOptions { plain: args, options })
            }
        },
    };
    (Some(launch), partials)
}

/// f32 values of the workspace: dgamma and dbeta of each chunk, by vectors or not.
pub(super) fn partial_len(problem: &Problem) -> usize {
    let chunks = [false, true].map(|vectors| Tiling::backward(problem, vectors).chunks.all());
    let longest = chunks[0].max(chunks[1]);
    usize::try_from(2 * longest * problem.cols() as u64).unwrap_or(usize::MAX)
}
