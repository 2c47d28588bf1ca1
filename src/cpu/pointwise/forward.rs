//! y = gamma·f(alpha·x + shift) + beta, rows of elements.

use super::Forward;
use crate::cpu::choices::{self, STAGE_ROWS, Work, side_by_side};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::math::Curve;
use crate::cpu::param::{Sources, Values, with_form};
use crate::cpu::plan::Tile;
use crate::cpu::rows::{At, Columns, Pair, Rows};
use crate::cpu::stage::{Lines, Output, Stage, half_lines};
use crate::cpu::stored::Stored;
use crate::cpu::tile::Tiles;

/// The forward of one tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardTile<T, C> {
    pub(super) arguments: Forward<T, C>,
    pub(super) tile: Tile,
}

impl<T: Stored, C: Curve> Kernel for ForwardTile<T, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self { arguments, tile } = self;
        let Forward { x, residual, y, gamma, beta, alpha, shift, stream, .. } = arguments;
        let Tile { rows, cols, .. } = tile;
        let curve = C::new::<R, T>(alpha, shift);
        let output = Output::new(y, true, stream).on_level::<R>(Lines::Paired);
        let mut stage = Stage::new();
        let mut tiles = Tiles::<2>::new();
        let tiles = tiles.slots();
        let first_head = output.head::<R>();
        let block = |begin, head| {
            let columns = output.block::<R>(begin, cols.end, head, x.apart(y));
            residual.map_or(columns, |residual| residual.columns(columns))
        };
        let one = block(cols.begin, first_head).end == cols.end;
        let memory = stream || residual.is_some_and(|residual| residual.is_in_memory());
        let group = choices::pointwise_group(memory && !one, rows.len());
        for group in rows.parts(group) {
            let (mut begin, mut head) = (cols.begin, first_head);
            while begin < cols.end {
                let columns = block(begin, head);
                // SAFETY: parameters have a value a column.
                let params = unsafe {
                    Sources::<T, 2>::new::<R>([gamma, beta], tiles, columns, rows.len(), stream, true)
                };
                for rows in x.heads().parts(group, STAGE_ROWS) {
                    let target = output.target(rows.begin, columns, &mut stage);
                    let ahead = if one { STAGE_ROWS } else { group.len() };
                    let mut ahead = if memory { x.ahead(rows.begin, ahead) } else { 0 };
                    let mut x = x.from(rows.begin);
                    if let Some(residual) = &residual {
                        x = residual.block::<R>(rows, columns, ahead, &mut stage);
                        ahead = 0;
                    }
                    let write = Write { x, y: target, curve: &curve, ahead };
                    with_form!(params, stream, |values, PAST| write.rows::<R, _, PAST>(
                        rows.len(),
                        columns,
                        values
                    ));
                    for r in 0..rows.len() {
                        output.finish::<R>(rows.begin + r, r, columns, target);
                    }
                }
                (begin, head) = (columns.end, 0);
            }
        }
        if memory {
            R::fence();
        }
    }
}

/// Writes y of a few rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a, T, C> {
    pub(super) x: Rows<T>,
    pub(super) y: Rows<T>,
    pub(super) curve: &'a C,
    /// How many rows further on the same columns are asked for, while memory is written.
    pub(super) ahead: usize,
}

impl<T: Stored, C: Curve> Write<'_, T, C> {
    /// The first `n` rows.
    #[inline(always)]
    pub(super) fn rows<R: Register, P: Stored, const PAST: bool>(
        &self,
        n: usize,
        columns: Columns,
        values: Values<P, 2>,
    ) {
        if const { PAST && half_lines::<R, T>() } && self.y.streams() {
            for row in 0..n {
                for pair in columns.pairs::<R>(self.y.half_a_line::<R>(columns)) {
                    match pair {
                        Pair::Both(at) => self.pair::<R, P>(row, at, values),
                        Pair::One(at) => self.with::<R, P, 1, true, false>(row, at, values),
                    }
                }
                for at in columns.ragged::<R>() {
                    self.with::<R, P, 1, false, PAST>(row, at, values);
                }
            }
            return;
        }
        side_by_side!(const { choices::rows::<R, T>(Work::PointwiseForward) }, n, |row, SIDE| {
            for at in columns.whole::<R>() {
                self.with::<R, P, SIDE, true, PAST>(row, at, values);
            }
            for at in columns.ragged::<R>() {
                if columns.overlap {
                    self.with::<R, P, SIDE, true, PAST>(row, at, values);
                } else {
                    self.with::<R, P, SIDE, false, PAST>(row, at, values);
                }
            }
        });
    }

    /// Two neighbours of a row, which are a line of the output.
    #[inline(always)]
    fn pair<R: Register, P: Stored>(&self, row: usize, at: [At; 2], values: Values<P, 2>) {
        let mut y = [Lanes::splat(0.0); 2];
        self.x.prefetch::<R, true>(row + self.ahead, at[0]);
        for k in 0..2 {
            let (gamma, beta) = (values.load::<R, true>(0, at[k]), values.load::<R, true>(1, at[k]));
            y[k] = self.curve.value::<R, T>(self.x.load::<R, true>(row, at[k])).mul_add(gamma, beta);
        }
        for k in 0..2 {
            self.y.store::<R, true, true>(row, at[k], y[k]);
        }
    }

    #[inline(always)]
    fn with<R: Register, P: Stored, const N: usize, const WHOLE: bool, const PAST: bool>(
        &self,
        row: usize,
        at: At,
        values: Values<P, 2>,
    ) {
        let (gamma, beta) = (values.load::<R, WHOLE>(0, at), values.load::<R, WHOLE>(1, at));
        self.block::<R, N, WHOLE, PAST>(row, at, gamma, beta);
    }

    /// `N` rows from `row` on, of one vector.
    #[inline(always)]
    pub(super) fn block<R: Register, const N: usize, const WHOLE: bool, const PAST: bool>(
        &self,
        row: usize,
        at: At,
        gamma: Lanes<R>,
        beta: Lanes<R>,
    ) {
        let mut y = [Lanes::splat(0.0); N];
        for r in 0..N {
            if PAST {
                self.x.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                // A line that the row before shares.
                if !WHOLE && self.y.streams() {
                    self.y.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                }
            }
            let x = self.x.load::<R, WHOLE>(row + r, at);
            y[r] = self.curve.value::<R, T>(x).mul_add(gamma, beta);
        }
        // After all loads: rows that lie a multiple of 4096 bytes apart would make loads wait for stores.
        for r in 0..N {
            self.y.store::<R, WHOLE, PAST>(row + r, at, y[r]);
        }
    }
}
