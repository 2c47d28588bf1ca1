//! The cut of a problem into tasks: pure functions, tested without running anything.
//!
//! What decides bits (the chunks of rows whose partial sums are kept apart) follows from the problem alone; the
//! number of threads decides only how many tasks there are.

use crate::{Op, Problem};

/// Elements below which a task is not worth a thread's waking.
const ELEMENTS_A_TASK: usize = 16 * 1024;
/// Elements from which a problem is worth several threads.
const ELEMENTS_FOR_THREADS: usize = 128 * 1024;
/// Tasks a thread: enough that one that is late holds up little.
const TASKS_A_THREAD: usize = 4;
/// Elements of a tile's columns are a multiple of this, so that no two tasks write to one cache line of 16-bit values.
const COLUMN_STEP: usize = 64;
/// Rows that add to one partial sum before a new one is begun, where each adds by itself: the errors of 64 additions of
/// equal terms would reach the bound of 1e-6, and those of 32 half of it.
const CHUNK_ROWS: usize = 32;
/// The same where kernels add two or four rows at a time.
const CHUNK_PAIRS: usize = 64;
/// Positions along S that a tile of a channels-first norm has; wider than the vectors of any level.
pub(crate) const RUN_TILE: usize = 64;
/// Tiles of a channels-first norm that add to one partial sum: each adds up to eight times, a vector at a time.
const CHUNK_TILES: usize = 4;

/// From `begin` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

impl Range {
    /// Part `index` when `len` is cut into parts of `step`.
    const fn part(index: usize, step: usize, len: usize) -> Self {
        let begin = index * step;
        let end = if len - begin < step { len } else { begin + step };
        Self { begin, end }
    }

    pub(crate) const fn len(self) -> usize {
        self.end - self.begin
    }

    /// Parts of `step`, the last one shorter where it has to be.
    #[inline(always)]
    pub(crate) fn parts(self, step: usize) -> impl Iterator<Item = Self> {
        (self.begin..self.end)
            .step_by(step.max(1))
            .map(move |begin| Self { begin, end: self.end.min(begin + step) })
    }

    /// The same range, so much further on.
    const fn shifted(self, by: usize) -> Self {
        Self { begin: self.begin + by, end: self.end + by }
    }
}

/// A rectangle of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) rows: Range,
    pub(crate) cols: Range,
    /// The chunk of rows that it belongs to.
    pub(crate) chunk: usize,
    /// The group of rows that share its parameters.
    pub(crate) group: usize,
}

/// A grid of tiles that covers every row and column once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Groups of rows, each with its own parameters: no tile has rows of two.
    groups: usize,
    /// Rows of a group.
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
}

impl Grid {
    /// Chunks of rows of each group.
    pub(crate) const fn group_parts(&self) -> usize {
        self.rows.div_ceil(self.tile_rows)
    }

    /// Chunks of rows.
    const fn row_parts(&self) -> usize {
        self.groups * self.group_parts()
    }

    const fn col_parts(&self) -> usize {
        self.cols.div_ceil(self.tile_cols)
    }

    pub(crate) const fn tiles(&self) -> usize {
        self.row_parts() * self.col_parts()
    }

    /// Tile `index`.
    pub(crate) const fn tile(&self, index: usize) -> Tile {
        let parts = self.col_parts();
        let (chunk, col) = (index / parts, index % parts);
        let (group, part) = if self.groups == 1 {
            (0, chunk)
        } else {
            (chunk / self.group_parts(), chunk % self.group_parts())
        };
        let rows = Range::part(part, self.tile_rows, self.rows).shifted(group * self.rows);
        let cols = Range::part(col, self.tile_cols, self.cols);
        Tile { rows, cols, chunk, group }
    }
}

/// Whether the problem is large enough for more than one thread.
pub(crate) const fn worth_threads(elements: usize) -> bool {
    elements >= ELEMENTS_FOR_THREADS
}

/// How many tasks to cut `elements` into for `threads` threads.
fn tasks(elements: usize, threads: usize) -> usize {
    if threads < 2 || !worth_threads(elements) {
        return 1;
    }
    (elements / ELEMENTS_A_TASK).clamp(1, threads * TASKS_A_THREAD)
}

/// The columns of each tile when a row is cut into about `parts`.
fn column_tile(problem: &Problem, parts: usize) -> usize {
    let (cols, step) = (problem.cols(), COLUMN_STEP.div_ceil(problem.inner()));
    cols.div_ceil(parts.max(1)).next_multiple_of(step).min(cols)
}

/// Tiles of the pointwise forward: bits do not depend on them.
pub(crate) fn pointwise_forward(problem: &Problem, threads: usize) -> Grid {
    let tasks = tasks(problem.elements(), threads);
    let tile_rows = problem.total_rows().div_ceil(tasks).max(1);
    let parts = tasks / problem.total_rows().max(1);
    let tile_cols = column_tile(problem, parts);
    let (groups, rows) = (problem.param_groups(), problem.param_rows());
    Grid { groups, rows, cols: problem.cols(), tile_rows, tile_cols }
}

/// Tiles of the pointwise backward: chunks of rows by the problem alone, cut along columns if threads would idle.
pub(crate) fn pointwise_backward(problem: &Problem, threads: usize) -> Grid {
    let (groups, rows, tile_rows) = (problem.param_groups(), problem.param_rows(), chunk_rows(problem));
    let chunks = (groups * rows.div_ceil(tile_rows)).max(1);
    let parts = tasks(problem.elements(), threads) / chunks;
    let tile_cols = column_tile(problem, parts);
    Grid { groups, rows, cols: problem.cols(), tile_rows, tile_cols }
}

/// Groups of rows (channels-last) or of runs (channels-first) of a norm's forward: bits do not depend on them.
pub(crate) fn norm_forward(problem: &Problem, threads: usize) -> Grid {
    let (groups, lines) = (problem.param_groups(), norm_lines(problem));
    let tile_rows = (groups * lines).div_ceil(tasks(problem.elements(), threads)).max(1);
    Grid { groups, rows: lines, cols: 1, tile_rows, tile_cols: 1 }
}

/// Chunks of rows (channels-last) or of runs (channels-first) of a norm's backward, by the problem alone.
pub(crate) fn norm_backward(problem: &Problem) -> Grid {
    let tile_rows = if problem.inner() == 1 { chunk_rows(problem) } else { CHUNK_TILES };
    Grid { groups: problem.param_groups(), rows: norm_lines(problem), cols: 1, tile_rows, tile_cols: 1 }
}

/// What a norm's task counts, of each group: rows, or tiles of [`RUN_TILE`] positions of channels-first data.
fn norm_lines(problem: &Problem) -> usize {
    let rows = problem.param_rows();
    if problem.inner() == 1 { rows } else { rows * problem.inner().div_ceil(RUN_TILE) }
}

/// Rows of a chunk: enough that partial sums cost little traffic, and few enough that small problems have several.
fn chunk_rows(problem: &Problem) -> usize {
    let rows = problem.param_rows().div_ceil(8);
    if problem.inner() > 1 {
        rows.clamp(4, CHUNK_ROWS)
    } else {
        let most = if problem.op().is_pointwise() { CHUNK_PAIRS } else { CHUNK_ROWS };
        rows.next_multiple_of(4).clamp(16, most)
    }
}

/// Sums of each column that a backward keeps: dgamma and dbeta, then dalpha, then dshift. The norms of channels-first data keep
/// what rounding takes from the first two.
pub(crate) const fn sums(problem: &Problem) -> usize {
    match problem.op() {
        Op::Dyt => 3,
        Op::Derf => 4,
        Op::LayerNorm | Op::RmsNorm => {
            if problem.inner() > 1 {
                4
            } else {
                2
            }
        }
    }
}

/// Chunks of rows of a backward, each of which has its own sums.
pub(crate) fn chunks(problem: &Problem) -> usize {
    let grid =
        if problem.op().is_pointwise() { pointwise_backward(problem, 1) } else { norm_backward(problem) };
    grid.row_parts()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;

    const SIZES: [usize; 12] = [1, 2, 3, 7, 16, 63, 64, 65, 1000, 4096, 65_537, 100_003];

    fn covers_once(grid: &Grid) {
        let mut covered = 0;
        for index in 0..grid.tiles() {
            let tile = grid.tile(index);
            assert!(tile.rows.len() > 0 && tile.cols.len() > 0, "{grid:?} {tile:?}");
            let (first, part) = (tile.group * grid.rows, tile.chunk % grid.group_parts());
            assert_eq!(tile.rows.begin, first + part * grid.tile_rows);
            assert!(tile.rows.end <= first + grid.rows && tile.cols.end <= grid.cols, "{grid:?} {tile:?}");
            covered += tile.rows.len() * tile.cols.len();
        }
        // Tiles are cut by two regular steps, so that none can overlap; equal area is then equal cover.
        assert_eq!(covered, grid.groups * grid.rows * grid.cols, "{grid:?}");
    }

    #[test]
    fn every_element_belongs_to_one_tile() -> Result<()> {
        for rows in SIZES.into_iter().chain([0]) {
            for cols in SIZES {
                let problem = Problem::new(Op::Derf, rows, cols);
                let grouped = [1, 7, 64].map(|param_rows| problem.param_rows(param_rows).build());
                // Where the rows are no multiple there is no such problem.
                for problem in grouped.into_iter().flatten().chain([problem.build()?]) {
                    for threads in [1, 2, 3, 8, 64] {
                        covers_once(&pointwise_forward(&problem, threads));
                        covers_once(&pointwise_backward(&problem, threads));
                        covers_once(&norm_forward(&problem, threads));
                    }
                    covers_once(&norm_backward(&problem));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_large_image_is_cut_between_threads() -> Result<()> {
        let problem = Problem::new(Op::Dyt, 1, 64).inner(56 * 56).build()?;
        assert!(pointwise_forward(&problem, 2).tiles() >= 2);
        assert!(pointwise_backward(&problem, 2).tiles() >= 2);
        Ok(())
    }

    #[test]
    fn chunks_do_not_depend_on_threads() -> Result<()> {
        for rows in SIZES {
            for inner in [1, 5, 49, 200] {
                let problem = Problem::new(Op::Dyt, rows, 100).inner(inner).build()?;
                let one = pointwise_backward(&problem, 1);
                for threads in [2, 3, 8, 64] {
                    let many = pointwise_backward(&problem, threads);
                    assert_eq!((one.tile_rows, one.row_parts()), (many.tile_rows, many.row_parts()));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn partial_sums_stay_small_beside_the_tensors() -> Result<()> {
        for (rows, cols) in [(512, 768), (8192, 4096), (1 << 20, 128), (1 << 33, 1)] {
            let problem = Problem::new(Op::Derf, rows, cols).build()?;
            assert!(chunks(&problem) * sums(&problem) * 10 <= rows, "{rows} × {cols}");
        }
        Ok(())
    }
}
