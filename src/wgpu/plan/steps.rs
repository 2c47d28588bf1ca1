//! How often a lane goes round the loops of a kernel, for drivers that count it.
//!
//! An upper bound: loops are counted as they are written in `shaders/`, with the last look at their condition, and
//! compilers unroll some of them. A function here has the name of the one in WGSL that it counts.

use super::super::compose::{AHEAD, Body, Form, Kernel, Quantised, kept};
use super::geometry::{LANES, vector};
use super::{Params, norm};
use crate::Pass;

/// Lines of lanes of channels-first data: `LINES` in WGSL.
const LINES: u64 = LANES / norm::ALONG;
/// `FIRST_STEPS` in WGSL.
const FIRST_STEPS: u64 = 16;
/// A sum over the lanes of a workgroup, by twice 16 additions; by subgroups it takes fewer.
const TEAM_SUM: u64 = 2 * loops(16, 0);
/// A sum over the lines of channels-first data.
const LINE_SUM: u64 = loops(LINES, 0);
/// `strided_sum` of the values of a workgroup.
const STRIDED_SUM: u64 = loops(LANES / 16, loops(16, 0));

/// How often a row is done: a second time if it strays.
const TIMES: u64 = 2;

/// A loop that is gone round `times`, with `body` steps of loops within.
const fn loops(times: u64, body: u64) -> u64 {
    times.saturating_mul(body + 1).saturating_add(1)
}

/// All steps of a lane.
pub(super) fn of(kernel: Kernel, params: &Params) -> u64 {
    let lane = Lane::new(kernel, params);
    match kernel.body {
        Body::Pointwise { pass: Pass::Forward, ahead, .. } => lane.pointwise_forward(ahead),
        Body::Pointwise { pass: Pass::Backward, .. } => lane.pointwise_backward(),
        Body::Norm { center, pass: Pass::Forward, form, .. } => match form {
            Form::Kept => lane.kept_forward(center),
            Form::Long => lane.long_forward(center),
            Form::First => lane.first_forward(center),
        },
        Body::Norm { center, pass: Pass::Backward, form, .. } => match form {
            Form::Kept => lane.kept_backward(center),
            Form::Long => loops(lane.steps, lane.long_row(center)),
            Form::First => loops(lane.steps, lane.first_tile(center)),
        },
        Body::Quantised { op, first } => lane.quantised(op, first),
        Body::Fold => lane.fold(),
    }
}

/// What the numbers of steps are made of.
struct Lane {
    /// Blocks of a row that a lane keeps or loads at once: `COUNT` in WGSL.
    count: u64,
    /// A loop over the values of a block.
    values: u64,
    /// Reading or writing a block of a row.
    access: u64,
    /// Adding dsum to a block of dx.
    dsum: u64,
    /// The sum of as many elements as are read at once, if there may be a residual.
    sum: u64,
    /// Elements of that.
    added: u64,
    cols: u64,
    inner: u64,
    len: u64,
    /// Blocks of a row.
    blocks: u64,
    /// Elements of a block.
    width: u64,
    team: u64,
    steps: u64,
    slab: u64,
    chunks: u64,
    groups: u64,
}

impl Lane {
    fn new(kernel: Kernel, params: &Params) -> Self {
        let width = if kernel.has_blocks() { vector(kernel.dtype) } else { 1 };
        let count = match kernel.body {
            Body::Norm { pass, form, .. } => u64::from(kept(form, pass, kernel.dtype)),
            Body::Quantised { first: false, .. } => u64::from(kept(Form::Long, Pass::Forward, kernel.dtype)),
            Body::Pointwise { .. } | Body::Quantised { .. } | Body::Fold => 1,
        };
        let values = loops(width, 0);
        let [cols, inner, len] = [params.cols, params.inner, params.len].map(u64::from);
        let access = if kernel.wide { 0 } else { values };
        // A quantised y has neither a residual nor a dsum.
        let adds = kernel.shared && !matches!(kernel.body, Body::Quantised { .. });
        let of_shared = |steps| if adds { steps } else { 0 };
        Self {
            count,
            values,
            access,
            dsum: of_shared(access + values),
            sum: of_shared(1 + if kernel.wide { values } else { 0 }),
            added: if kernel.wide { width } else { 1 },
            cols,
            inner,
            len,
            blocks: cols.div_ceil(width),
            width,
            team: u64::from(params.team).max(1),
            steps: params.steps.into(),
            slab: params.slabs.into(),
            chunks: params.chunks.into(),
            groups: params.groups.into(),
        }
    }

    fn pointwise_forward(&self, ahead: bool) -> u64 {
        let rows = if ahead { u64::from(AHEAD) } else { 1 };
        let turn = loops(rows, 0) + loops(rows, self.values);
        self.sum_of(self.steps) + 2 * self.values + loops(self.steps.div_ceil(rows), turn)
    }

    fn pointwise_backward(&self) -> u64 {
        let width = self.team * self.width;
        let lines = loops((LANES / self.team).div_ceil(16), loops(16, 0));
        let of_lane = loops(width.min(self.len).div_ceil(LANES), lines);
        // At most as many columns as positions.
        let columns = (width / self.inner.max(1) + 2).min(width).div_ceil(16);
        let of_columns =
            loops(columns, loops(self.inner.min(width).div_ceil(16), 0) + loops(1, loops(16, 0)));
        let store_columns = self.values + of_lane + if self.inner > 1 { of_columns } else { 0 };
        self.values + loops(self.steps, self.values + self.dsum) + 2 * store_columns + 2 * STRIDED_SUM
    }

    /// `prepare`, of which a lane does so many turns.
    fn sum_of(&self, turns: u64) -> u64 {
        if self.sum == 0 { 0 } else { loops(turns, self.sum) }
    }

    /// The same of the rows of a workgroup.
    fn sum_of_rows(&self) -> u64 {
        let rows = self.steps * (LANES / self.team);
        self.sum_of((rows * self.cols.div_ceil(self.added)).div_ceil(LANES))
    }

    /// What finds the origin of deviations in the blocks that a lane has, and what adds up those.
    fn kept_sums(&self, center: bool, terms: u64) -> u64 {
        let origin = if center { loops(self.count, self.values) + TEAM_SUM } else { 0 };
        origin + loops(self.count, terms) + TEAM_SUM
    }

    fn kept_scale(&self) -> u64 {
        self.access + loops(self.count, self.values) + TEAM_SUM
    }

    fn kept_forward(&self, center: bool) -> u64 {
        let load = loops(self.count, self.access) + self.access;
        let store = loops(self.count, self.values + self.access);
        let row = load + self.kept_scale() + self.kept_sums(center, self.values) + store;
        self.sum_of_rows() + loops(self.count, 2 * self.values) + loops(TIMES, loops(self.steps, row))
    }

    fn kept_backward(&self, center: bool) -> u64 {
        let load = loops(self.count, 2 * self.access) + self.access;
        let store = loops(self.count, self.values + self.access + self.dsum);
        let row = load + self.kept_scale() + self.kept_sums(center, self.values) + store;
        // The lanes of the first team add up those of all.
        let teams = LANES / self.team;
        let across = loops(teams.div_ceil(16), loops(16, 0));
        let store_sums = 2 * (across + loops(4, 0));
        let columns = loops(self.count, loops(self.width.div_ceil(4), store_sums));
        loops(self.count, self.values) + loops(TIMES, loops(self.steps, row)) + columns
    }

    /// A pass over a long row by tiles, of which each of `streams` tensors is loaded before `terms` of each block.
    fn tiles(&self, streams: u64, terms: u64) -> u64 {
        let load = loops(self.count, streams * self.access);
        loops(self.blocks.div_ceil(self.count * LANES), load + loops(self.count, terms))
    }

    fn long_origin(&self, center: bool) -> u64 {
        if center { self.access + self.tiles(1, self.values) + TEAM_SUM } else { 0 }
    }

    fn long_scale(&self) -> u64 {
        self.access + loops(self.blocks.div_ceil(LANES), self.access + self.values) + TEAM_SUM
    }

    fn long_forward(&self, center: bool) -> u64 {
        let sums = self.long_origin(center) + self.tiles(1, self.values) + TEAM_SUM;
        let write = self.tiles(1, 3 * self.values + self.access);
        self.sum_of_rows() + loops(TIMES, sums) + self.long_scale() + write
    }

    /// The statistics of a norm, the values twice, and their bytes.
    fn quantised(&self, op: Quantised, first: bool) -> u64 {
        let center = matches!(op, Quantised::Norm { center: true });
        let statistics = match (op, first) {
            (Quantised::Pointwise(_), _) => 0,
            (Quantised::Norm { .. }, false) => self.long_forward(center),
            (Quantised::Norm { .. }, true) => self.first_forward(center),
        };
        // Reading a block, its parameters, v, and either the largest or the bytes: words of four and those that are none.
        let block = self.access + 4 * self.values + loops(self.width, loops(4, 0));
        let turns = if first { self.cols.div_ceil(LINES) } else { self.blocks.div_ceil(LANES) };
        statistics + 2 * loops(turns, block)
    }

    /// A row of a backward.
    fn long_row(&self, center: bool) -> u64 {
        let write = loops(self.blocks.div_ceil(LANES), 3 * self.access + 3 * self.values + self.dsum);
        let sums = self.long_origin(center) + self.tiles(2, 2 * self.values) + TEAM_SUM;
        loops(TIMES, sums) + self.long_scale() + write
    }

    /// A pass over the columns of a position, folded now and then.
    fn columns(&self, terms: u64) -> u64 {
        loops(self.cols.div_ceil(FIRST_STEPS * LINES), loops(FIRST_STEPS, terms)) + LINE_SUM
    }

    fn first_scale(&self) -> u64 {
        loops(self.cols.div_ceil(LINES), self.values) + LINE_SUM
    }

    fn first_forward(&self, center: bool) -> u64 {
        let origin = if center { self.columns(0) } else { 0 };
        let write = loops(self.cols.div_ceil(LINES), 3 * self.values);
        let sum = self.sum_of(self.cols.div_ceil(LINES));
        sum + loops(TIMES, origin + self.columns(0)) + self.first_scale() + write
    }

    /// A tile of positions of a backward.
    fn first_tile(&self, center: bool) -> u64 {
        let origin = if center { self.columns(0) } else { 0 };
        let add_columns = loops(norm::ALONG / 8, loops(8, 0)) + loops(4, 0);
        let write = loops(self.cols.div_ceil(4 * LINES), loops(4, self.values + self.dsum) + add_columns);
        loops(TIMES, origin + self.columns(2 * self.values)) + self.first_scale() + write
    }

    fn fold(&self) -> u64 {
        // A column that slabs cut has a partial sum in each.
        let pieces = self.inner.checked_div(self.slab).map_or(1, |whole| whole + 2);
        let columns = loops(self.chunks.div_ceil(LANES / 32), loops(pieces, 0)) + loops(LANES / 32, 0);
        let scalars = loops((self.groups * self.chunks * self.team).div_ceil(LANES), 0) + STRIDED_SUM;
        columns.max(scalars)
    }
}
