//! y = x̂·gamma + beta with x̂ = (x − mean)·rstd, row by row.

use super::exact;
use super::stats::{Moments, Norm, Statistics, strays};
use crate::cpu::choices::{self, GROUP, Work, side_by_side};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::param::{Param, Sources, Values, with_form};
use crate::cpu::plan::Range;
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stage::{Output, Stage};
use crate::cpu::stored::Stored;
use crate::cpu::tile::Tiles;

/// The arguments of a norm's forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<T> {
    pub(super) x: Rows<T>,
    pub(super) y: Rows<T>,
    pub(super) gamma: Param,
    pub(super) beta: Param,
    /// Null where it is not asked for, like `rstd`; one value a row.
    pub(super) mean: *mut f32,
    pub(super) rstd: *mut f32,
    pub(super) norm: Norm,
    pub(super) cols: usize,
}

impl<T> Arguments<T> {
    /// Writes the statistics of row `row` that are asked for.
    ///
    /// # Safety
    /// Each is null or has a value for the row.
    #[inline(always)]
    pub(super) unsafe fn save(&self, row: usize, mean: f32, rstd: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.mean.is_null() {
                *self.mean.add(row) = mean;
            }
            if !self.rstd.is_null() {
                *self.rstd.add(row) = rstd;
            }
        }
    }
}

/// The forward of some rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward<T, const CENTER: bool> {
    pub(super) arguments: Arguments<T>,
    pub(super) stream: bool,
    pub(super) rows: Range,
}

/// Rows of a block from `at` on: those that go the usual way, in runs of neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordinary<'a> {
    strays: &'a [bool],
    next: usize,
}

impl<'a> Ordinary<'a> {
    #[inline(always)]
    pub(super) const fn new(strays: &'a [bool]) -> Self {
        Self { strays, next: 0 }
    }
}

impl Iterator for Ordinary<'_> {
    type Item = Range;

    #[inline(always)]
    fn next(&mut self) -> Option<Range> {
        let (n, mut begin) = (self.strays.len(), self.next);
        while begin < n && self.strays[begin] {
            begin += 1;
        }
        let mut end = begin;
        while end < n && !self.strays[end] {
            end += 1;
        }
        self.next = end;
        if begin < end { Some(Range { begin, end }) } else { None }
    }
}

/// x̂ = (x − m)·rstd + shift, for each row of a group.
#[derive(Clone, Copy, Debug)]
struct Fit {
    m: [f32; GROUP],
    rstd: [f32; GROUP],
    /// −c·rstd.
    shift: [f32; GROUP],
    /// Whether f32 may not hold the squares of a row, which is then done apart.
    strays: [bool; GROUP],
}

impl<T: Stored, const CENTER: bool> Kernel for Forward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self { arguments: Arguments { x, y, gamma, beta, cols, .. }, stream, rows } = self;
        let output = Output::new(y, true, stream).on_level::<R>(true);
        let (mut stage, mut tiles) = (Stage::new(), Tiles::<2>::new());
        let tiles = tiles.slots();
        let mut fit =
            Fit { m: [0.0; GROUP], rstd: [0.0; GROUP], shift: [0.0; GROUP], strays: [false; GROUP] };
        // With one block for each row the parameters are prepared once for all rows, and else for each group.
        let head = output.head::<R>();
        let one = output.block::<R>(0, cols, head, false).end == cols;
        let group = if one { choices::STAGE_ROWS } else { GROUP };
        for first in (rows.begin..rows.end).step_by(group) {
            let n = group.min(rows.end - first);
            // SAFETY: the rows exist.
            unsafe { self.statistics::<R>(first, n, &mut fit) };
            let mut begin = 0;
            while begin < cols {
                let head = if begin == 0 { head } else { 0 };
                let columns = output.block::<R>(begin, cols, head, x.apart(y));
                let fresh = !one || first == rows.begin;
                // SAFETY: parameters have a value a column.
                let params = unsafe {
                    Sources::<T, 2>::new::<R>([gamma, beta], tiles, columns, rows.len(), stream, fresh)
                };
                for at in (0..n).step_by(choices::STAGE_ROWS) {
                    let side = choices::STAGE_ROWS.min(n - at);
                    let target = output.target(first + at, columns, &mut stage);
                    let write = Write::<T, CENTER> { x: x.from(first + at), y: target, ahead: group };
                    for rows in Ordinary::new(&fit.strays[at..at + side]) {
                        with_form!(params, stream, |values, PAST| write
                            .rows::<R, _, PAST>(&fit, at, rows, columns, values));
                        for r in rows.begin..rows.end {
                            output.finish::<R>(first + at + r, r, columns, target);
                        }
                    }
                }
                begin = columns.end;
            }
            for r in (0..n).filter(|r| fit.strays[*r]) {
                // SAFETY: the row exists; nothing of it has been written.
                unsafe { exact::forward_row::<T, CENTER>(&self.arguments, first + r) };
            }
        }
        if stream {
            R::fence();
        }
    }
}

impl<T: Stored, const CENTER: bool> Forward<T, CENTER> {
    /// The statistics of `n` rows from `first` on.
    ///
    /// # Safety
    /// The processor has this level, and the rows exist.
    #[inline(always)]
    unsafe fn statistics<R: Register>(&self, first: usize, n: usize, fit: &mut Fit) {
        let Arguments { x, cols, norm, .. } = self.arguments;
        let work = if CENTER { Work::Statistics } else { Work::Squares };
        side_by_side!(choices::rows::<R, T>(work), n, |row, SIDE| {
            let x = x.from(first + row);
            let kernel = Statistics::<T, SIDE, CENTER> { x, cols, norm };
            // SAFETY: the caller's promise.
            let found = unsafe { R::run(kernel) };
            for (r, &Moments { m, c, variance }) in found.iter().enumerate() {
                let (r, rstd) = (row + r, norm.rstd(variance));
                (fit.m[r], fit.rstd[r], fit.shift[r]) = (m, rstd, -(c * rstd));
                fit.strays[r] = strays(rstd) > 0.0;
                // SAFETY: the caller's promise.
                unsafe {
                    self.arguments.save(first + r, m, rstd);
                }
            }
        });
    }
}

/// Writes y of a few rows.
#[derive(Clone, Copy, Debug)]
struct Write<T, const CENTER: bool> {
    x: Rows<T>,
    y: Rows<T>,
    /// How many rows further on the same columns are asked for, while memory is written.
    ahead: usize,
}

impl<T: Stored, const CENTER: bool> Write<T, CENTER> {
    /// The rows `rows`, of which row 0 has the statistics `first`.
    #[inline(always)]
    fn rows<R: Register, P: Stored, const PAST: bool>(
        &self,
        fit: &Fit,
        first: usize,
        rows: Range,
        columns: Columns,
        values: Values<P, 2>,
    ) {
        side_by_side!(const { choices::rows::<R, T>(Work::NormForward) }, rows.len(), |row, SIDE| {
            let row = rows.begin + row;
            for at in columns.whole::<R>() {
                self.block::<R, P, SIDE, true, PAST>(fit, first + row, row, at, &values);
            }
            for at in columns.ragged::<R>() {
                if columns.overlap {
                    self.block::<R, P, SIDE, true, PAST>(fit, first + row, row, at, &values);
                } else {
                    self.block::<R, P, SIDE, false, PAST>(fit, first + row, row, at, &values);
                }
            }
        });
    }

    #[inline(always)]
    fn block<R: Register, P: Stored, const N: usize, const WHOLE: bool, const PAST: bool>(
        &self,
        fit: &Fit,
        first: usize,
        row: usize,
        at: At,
        values: &Values<P, 2>,
    ) {
        let (gamma, beta) = (values.load::<R, WHOLE>(0, at), values.load::<R, WHOLE>(1, at));
        let mut y = [Lanes::splat(0.0); N];
        for r in 0..N {
            if PAST {
                self.x.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                // A line that the row before shares.
                if !WHOLE && self.y.streams() {
                    self.y.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                }
            }
            let (x, i) = (self.x.load::<R, WHOLE>(row + r, at), first + r);
            let rstd = Lanes::splat(fit.rstd[i]);
            let x_hat = if CENTER {
                (x - Lanes::splat(fit.m[i])).mul_add(rstd, Lanes::splat(fit.shift[i]))
            } else {
                x * rstd
            };
            y[r] = x_hat.mul_add(gamma, beta);
        }
        // After all loads: rows that lie a multiple of 4096 bytes apart would make loads wait for stores.
        for r in 0..N {
            self.y.store::<R, WHOLE, PAST>(row + r, at, y[r]);
        }
    }
}
