//! DyT and Derf. A lane owns the same block of positions of every row that it takes.

use super::geometry::{LANES, floor_power, vector};
use super::portion::rows_of_group;
use super::rows::Rows;
use crate::Problem;

/// Workgroups that keep a large GPU busy for several waves.
const FORWARD_WORKGROUPS: u64 = 2048;
/// Rows that a lane of the forward takes at most.
const FORWARD_STEPS: u64 = 8;
/// As above, of the backward, whose sums cost traffic for each workgroup.
const BACKWARD_WORKGROUPS: u64 = 1024;
/// Rows that add to one sum of a lane.
const BACKWARD_STEPS: u64 = 32;
/// Least rows of a lane where there are several chunks.
const LEAST_STEPS: u64 = 4;
/// Up to this many rows a lane, one chunk of rows is worth more than several workgroups.
const SINGLE_CHUNK_STEPS: u64 = 8;
/// Lanes along a row in the backward, so that a workgroup's sums fit its memory.
const BACKWARD_TEAM: u64 = 32;

/// How workgroups lie over rows and positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiling {
    /// Lanes along a row; the others of a workgroup have other rows.
    pub(super) team: u64,
    /// Elements of a lane.
    pub(super) width: u64,
    /// Workgroups along a row.
    pub(super) slabs: u64,
    /// Rows of a lane.
    pub(super) steps: u64,
}

/// rows · slabs / lines: how many rows a lane would have if there were one workgroup for each slab.
fn rows_of_all(problem: &Problem, slabs: u64, lines: u64) -> u64 {
    u64::try_from(problem.total_rows() as u128 * u128::from(slabs) / u128::from(lines)).unwrap_or(u64::MAX)
}

impl Tiling {
    pub(super) fn forward(problem: &Problem, wide: bool) -> Self {
        let tiling = Self::along(problem, wide, LANES);
        let all = rows_of_all(problem, tiling.slabs, tiling.lines());
        let most = FORWARD_STEPS.min(floor_power(rows_of_group(problem) / tiling.lines()));
        Self { steps: floor_power(all / FORWARD_WORKGROUPS).min(most), ..tiling }
    }

    /// Of the problem alone: what is added up in which order depends on nothing else. A chunk's rows lie within
    /// `chunk_bytes`, if it has more than one.
    pub(super) fn backward(problem: &Problem, wide: bool, chunk_bytes: u64) -> Self {
        let most_rows = Rows::of(problem).within(chunk_bytes / problem.dtype().size() as u64);
        let group = rows_of_group(problem);
        let mut tiling = Self::along(problem, wide, BACKWARD_TEAM);
        // Where rows lie far apart, or few share gamma, a workgroup has fewer of them.
        let most_lines = most_rows.min(group);
        if tiling.lines() > most_lines {
            tiling.team = LANES / floor_power(most_lines);
            tiling.slabs = (problem.row_len() as u64).div_ceil(tiling.slab());
        }
        let rows = problem.total_rows() as u64;
        let steps = if rows <= tiling.lines() * SINGLE_CHUNK_STEPS {
            SINGLE_CHUNK_STEPS
        } else {
            let all = rows_of_all(problem, tiling.slabs, tiling.lines());
            floor_power(all / BACKWARD_WORKGROUPS).clamp(LEAST_STEPS, BACKWARD_STEPS)
        };
        let most = (most_rows / tiling.lines()).min(group.div_ceil(tiling.lines()));
        Self { steps: steps.min(most).max(1), ..tiling }
    }

    fn along(problem: &Problem, wide: bool, widest: u64) -> Self {
        let width = if wide { vector(problem.dtype()) } else { 1 };
        let blocks = (problem.row_len() as u64).div_ceil(width);
        let team = blocks.next_power_of_two().min(widest);
        Self { team, width, slabs: blocks.div_ceil(team), steps: 1 }
    }

    /// Rows of a workgroup side by side.
    const fn lines(&self) -> u64 {
        LANES / self.team
    }

    /// Rows of a workgroup.
    pub(super) const fn chunk_rows(&self) -> u64 {
        self.lines() * self.steps
    }

    /// Positions of a slab.
    pub(super) const fn slab(&self) -> u64 {
        self.team * self.width
    }

    /// Partial sums of a gradient of columns in a chunk: one for each column, and one more wherever a slab ends inside
    /// of one.
    pub(super) const fn pieces(&self, problem: &Problem) -> u64 {
        let cols = problem.cols() as u64;
        if problem.inner() == 1 { cols } else { cols + self.slabs - 1 }
    }
}
