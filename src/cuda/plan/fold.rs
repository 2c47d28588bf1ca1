//! The second stage of every backward.

use super::args::Fold;
use super::geometry::{WARP, block, grid};
use super::options::Chunks;
use super::{Args, BackwardAddresses, Entry, Launch};
use crate::Problem;

/// Most threads that share the chunks of a column.
const MOST_LANES: u64 = 8;
/// Partial sums that a thread adds up before another one is worth it: it loads them all at once.
const ENOUGH: u64 = 8;

/// Where the first stage writes its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partials {
    /// Address, 0 where not asked for; as those below.
    pub(super) dgamma: u64,
    pub(super) dbeta: u64,
    pub(super) dalpha: u64,
    pub(super) dshift: u64,
    /// Whether the sums of columns, and those over everything, are the gradients already.
    direct: [bool; 2],
    slab: u64,
    /// Partial sums of a chunk.
    pub(super) pieces: u64,
    pub(super) chunks: Chunks,
    scalars: u64,
}

impl Partials {
    /// `complete` says whether the sums of columns, and those over everything, need no other to be added.
    pub(super) fn new(
        problem: &Problem,
        at: &BackwardAddresses,
        complete: [bool; 2],
        slab: u64,
        pieces: u64,
        chunks: Chunks,
        scalars: u64,
    ) -> Self {
        let direct = complete.map(|complete| complete && !problem.accumulate());
        let columns = pieces * chunks.all();
        let begins = [0, columns, 2 * columns, 2 * columns + scalars];
        let place = |gradient: u64, direct: bool, i: usize| match (gradient, direct) {
            (0, _) => 0,
            (_, true) => gradient,
            (_, false) => at.workspace + begins[i] * size_of::<f32>() as u64,
        };
        Self {
            dgamma: place(at.dgamma, direct[0], 0),
            dbeta: place(at.dbeta, direct[0], 1),
            dalpha: place(at.dalpha, direct[1], 2),
            dshift: place(at.dshift, direct[1], 3),
            direct,
            slab,
            pieces,
            chunks,
            scalars,
        }
    }
}

/// The second stage, if anything is left to do.
pub(super) fn launch(problem: &Problem, at: &BackwardAddresses, partials: &Partials) -> Option<Launch> {
    let [columns, scalars] = partials.direct.map(|direct| !direct);
    let unless = |wanted: bool, address: u64| if wanted { address } else { 0 };
    let (dgamma, dbeta) = (unless(columns, at.dgamma), unless(columns, at.dbeta));
    let (dalpha, dshift) = (unless(scalars, at.dalpha), unless(scalars, at.dshift));
    let cols = problem.cols() as u64;
    // Each gradient has blocks of its own.
    let wanted = |addresses: [u64; 2]| addresses.into_iter().filter(|&address| address != 0).count() as u64;
    let column_blocks = partials.chunks.groups * cols.div_ceil(WARP);
    let blocks = wanted([dgamma, dbeta]) * column_blocks + wanted([dalpha, dshift]);
    if blocks == 0 {
        return None;
    }
    let of_column = partials.chunks.of_group.div_ceil(ENOUGH);
    let of_scalar = partials.scalars.div_ceil(ENOUGH * WARP);
    let lanes = of_column.max(of_scalar).max(1).next_power_of_two().min(MOST_LANES);
    #[expect(clippy::cast_possible_truncation, reason = "a grid's blocks fit 31 bits")]
    let args = Fold {
        dgamma_partials: partials.dgamma,
        dbeta_partials: partials.dbeta,
        dalpha_partials: partials.dalpha,
        dshift_partials: partials.dshift,
        dgamma,
        dbeta,
        dalpha,
        dshift,
        cols,
        inner: problem.inner() as u64,
        slab: partials.slab,
        pieces: partials.pieces,
        chunks: partials.chunks.of_group,
        scalars: partials.scalars,
        column_blocks: column_blocks as u32,
        accumulate: problem.accumulate().into(),
        groups: partials.chunks.groups,
    };
    Some(Launch {
        entry: Entry::Fold,
        grid: grid(blocks),
        block: block(WARP, lanes),
        // Two f32 for each column and lane, and one column of padding.
        #[expect(clippy::cast_possible_truncation, reason = "3 KiB at most")]
        shared_bytes: ((WARP + 1) * lanes * 8) as u32,
        args: Args::Fold(args),
    })
}
