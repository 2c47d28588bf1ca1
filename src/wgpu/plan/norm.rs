//! LayerNorm and RMSNorm. A row stays in the registers of its lanes where it fits.

use super::super::compose::{Form, kept};
use super::geometry::{LANES, floor_power, vector};
use super::portion::rows_of_group;
use super::rows::Rows;
use crate::{Pass, Problem};

/// Positions along `inner` that a workgroup has of channels-first data.
pub(super) const ALONG: u64 = 32;
/// Workgroups of a forward that keep a large GPU busy.
const FORWARD_WORKGROUPS: u64 = 1024;
/// Rows of a team of a forward at most, which share one read of gamma and beta.
const FORWARD_STEPS: u64 = 8;
/// Chunks of rows of a large problem.
const CHUNKS: u64 = 256;
/// Rows that add to one sum of a lane.
const MOST_STEPS: u64 = 32;
// A kernel has a bit for each row of a team: `stray_rows`.
const _: () = assert!(MOST_STEPS <= 32 && FORWARD_STEPS <= 32);
/// Tiles of channels-first data that add to one sum.
const MOST_TILES: u64 = 16;
/// Workgroups of a channels-first backward that keep a large GPU busy.
const FIRST_CHUNKS: u64 = 1024;

/// How workgroups lie over rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiling {
    pub(super) form: Form,
    /// Lanes of a row, a power of two; channels-first: all.
    pub(super) team: u64,
    /// Rows of a team, or tiles of a workgroup; 1 in a forward that does not keep its rows.
    pub(super) steps: u64,
    /// Workgroups of a row of channels-first data in a backward; 0 where a workgroup has whole rows.
    pub(super) slabs: u64,
}

/// Tiles of positions in a row of channels-first data.
pub(super) const fn tiles(problem: &Problem) -> u64 {
    (problem.inner() as u64).div_ceil(ALONG)
}

/// Rows that one chunk may have, so that it can be bound as a whole.
fn most_rows(problem: &Problem, chunk_bytes: u64) -> u64 {
    Rows::of(problem).within(chunk_bytes / problem.dtype().size() as u64)
}

impl Tiling {
    pub(super) fn forward(problem: &Problem) -> Self {
        let tiling = Self::of(problem, Pass::Forward, u64::MAX);
        match tiling.form {
            Form::Kept => {
                let lines = problem.total_rows() as u64 / tiling.teams();
                let most = FORWARD_STEPS.min(floor_power(rows_of_group(problem) / tiling.teams()));
                Self { steps: floor_power(lines / FORWARD_WORKGROUPS).min(most), ..tiling }
            }
            Form::Long | Form::First => tiling,
        }
    }

    /// Of the problem alone: what is added up in which order depends on nothing else.
    pub(super) fn backward(problem: &Problem, chunk_bytes: u64) -> Self {
        let tiling = Self::of(problem, Pass::Backward, chunk_bytes);
        match tiling.form {
            Form::Kept | Form::Long => {
                let lines = (problem.total_rows() as u64).div_ceil(tiling.teams());
                let most = (most_rows(problem, chunk_bytes) / tiling.teams()).clamp(1, MOST_STEPS);
                let most = most.min(rows_of_group(problem).div_ceil(tiling.teams()));
                Self { steps: lines.div_ceil(CHUNKS).clamp(1, most), ..tiling }
            }
            Form::First => tiling.channels_first(problem, chunk_bytes),
        }
    }

    /// A workgroup for each row, or for each tile of positions.
    pub(super) const fn whole_workgroups(form: Form) -> Self {
        Self { form, team: LANES, steps: 1, slabs: 0 }
    }

    fn of(problem: &Problem, pass: Pass, chunk_bytes: u64) -> Self {
        if problem.inner() > 1 {
            return Self { form: Form::First, team: LANES, steps: 1, slabs: 0 };
        }
        // Whether or not they are aligned: the order of the sums is the same.
        let columns = vector(problem.dtype()) * u64::from(kept(Form::Kept, pass, problem.dtype()));
        let team = (problem.cols() as u64).div_ceil(columns).next_power_of_two();
        if team > LANES {
            return Self { form: Form::Long, team: LANES, steps: 1, slabs: 0 };
        }
        // Where rows lie far apart, or few share gamma, a workgroup has fewer of them.
        let most = most_rows(problem, chunk_bytes).min(rows_of_group(problem));
        let fewer = LANES.div_ceil(most.min(LANES)).next_power_of_two();
        let team = match pass {
            Pass::Forward => team,
            Pass::Backward => team.max(fewer),
        };
        Self { form: Form::Kept, team, steps: 1, slabs: 0 }
    }

    fn channels_first(self, problem: &Problem, chunk_bytes: u64) -> Self {
        let tiles = tiles(problem);
        let all = (problem.total_rows() as u64).saturating_mul(tiles);
        let steps = all.div_ceil(FIRST_CHUNKS).clamp(1, MOST_TILES);
        if steps <= tiles {
            return Self { steps, slabs: tiles.div_ceil(steps), ..self };
        }
        // Whole rows, so that none is cut between two bindings.
        let most = most_rows(problem, chunk_bytes).min(rows_of_group(problem));
        let rows = (steps / tiles).min(most);
        Self { steps: rows * tiles, ..self }
    }

    /// With fewer rows of a team, or tiles of a workgroup.
    pub(super) fn with_steps(self, problem: &Problem, steps: u64) -> Self {
        match self.form {
            Form::Kept | Form::Long => Self { steps, ..self },
            Form::First => {
                let tiles = tiles(problem);
                if steps <= tiles {
                    Self { steps, slabs: tiles.div_ceil(steps), ..self }
                } else {
                    Self { steps: steps / tiles * tiles, ..self }
                }
            }
        }
    }

    /// Rows of a workgroup that are gone through side by side.
    pub(super) const fn teams(&self) -> u64 {
        match self.form {
            Form::Kept => LANES / self.team,
            Form::Long | Form::First => 1,
        }
    }

    /// Whole rows of a chunk of a backward; 0 where a row has several chunks.
    pub(super) fn chunk_rows(&self, problem: &Problem) -> u64 {
        match self.form {
            Form::First if self.slabs > 0 => 0,
            Form::First => self.steps / tiles(problem),
            Form::Kept | Form::Long => self.teams() * self.steps,
        }
    }

    /// Chunks of the first `rows` rows of a backward, the last perhaps shorter.
    pub(super) fn chunks_of(&self, problem: &Problem, rows: u64) -> u64 {
        match self.chunk_rows(problem) {
            0 => rows * self.slabs,
            each => rows.div_ceil(each),
        }
    }

    /// Workgroups of a forward of `rows` rows.
    pub(super) fn workgroups(&self, problem: &Problem, rows: u64) -> u64 {
        match self.form {
            Form::First => rows * tiles(problem),
            Form::Kept | Form::Long => rows.div_ceil(self.teams() * self.steps),
        }
    }
}
