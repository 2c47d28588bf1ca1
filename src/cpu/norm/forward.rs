//! y = x̂·gamma + beta with x̂ = (x − mean)·rstd, row by row.

use super::exact;
use super::stats::{Moments, Norm, Statistics, strays};
use crate::cpu::choices::{self, GROUP, Work, side_by_side};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::param::{Param, Sources, Values, with_form};
use crate::cpu::plan::Range;
use crate::cpu::residual::Residual;
use crate::cpu::rows::{At, Columns, Pair, Rows};
use crate::cpu::stage::{Lines, Output, Stage, half_lines};
use crate::cpu::stored::Stored;
use crate::cpu::tensor::Tensor;
use crate::cpu::tile::Tiles;

/// The arguments of a norm's forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<T> {
    /// x, or its sum with the residual.
    pub(super) x: Tensor<T>,
    pub(super) residual: Option<Residual<T>>,
    pub(super) y: Tensor<T>,
    pub(super) gamma: Param,
    pub(super) beta: Param,
    /// Null where it is not asked for, like `rstd`; one value a row.
    pub(super) mean: *mut f32,
    pub(super) rstd: *mut f32,
    pub(super) norm: Norm,
    pub(super) cols: usize,
}

impl<T> Arguments<T> {
    /// Takes the parameters of a group of rows.
    #[cold]
    pub(super) fn take_group(&mut self, group: usize) {
        [self.gamma, self.beta] = [self.gamma, self.beta].map(|param| param.further(group * self.cols));
    }

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

/// What a row's x̂ is made of: x̂ = (x − m)·rstd + shift.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) m: f32,
    pub(super) rstd: f32,
    /// −c·rstd.
    shift: f32,
}

impl Parts {
    pub(super) const ZERO: Self = Self { m: 0.0, rstd: 0.0, shift: 0.0 };

    /// Those of a row, from its statistics.
    #[inline(always)]
    pub(super) fn new(norm: &Norm, Moments { m, c, variance }: Moments<f32>) -> Self {
        let rstd = norm.rstd(variance);
        Self { m, rstd, shift: -(c * rstd) }
    }

    /// Whether f32 may not hold the squares of the row, which is then done apart.
    #[inline(always)]
    pub(super) fn stray(&self) -> bool {
        strays(self.rstd) > 0.0
    }
}

/// The rows of a group.
#[derive(Clone, Copy, Debug)]
struct Group {
    parts: [Parts; GROUP],
    strays: [bool; GROUP],
}

impl<T: Stored, const CENTER: bool> Kernel for Forward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self { arguments: Arguments { x, residual, y, gamma, beta, cols, .. }, stream, rows } = self;
        let output = Output::new(y, true, stream).on_level::<R>(Lines::Paired);
        let mut stage = Stage::new();
        let mut tiles = Tiles::<2>::new();
        let tiles = tiles.slots();
        let mut found = Group { parts: [Parts::ZERO; GROUP], strays: [false; GROUP] };
        // With one block for each row the parameters are prepared once for all rows, and else for each group.
        let head = output.head::<R>();
        let one = output.block::<R>(0, cols, head, false).end == cols;
        let mut group = if one { choices::STAGE_ROWS } else { GROUP };
        // Where the op reads the stage it writes there too, if y goes by way of the stage.
        let mut staged = false;
        if let Some(residual) = &residual {
            group = residual.rows_at_once(cols, group);
            staged = residual.is_staged();
        }
        for part in x.heads().parts(rows, group) {
            let (first, n) = (part.begin, part.len());
            let mut x = x.from(first);
            if let Some(residual) = &residual {
                x = residual.whole::<R>(part, cols, &mut stage);
            }
            // SAFETY: the rows exist.
            unsafe { self.statistics::<R>(x, first, n, &mut found) };
            let mut begin = 0;
            while begin < cols {
                let head = if begin == 0 { head } else { 0 };
                let mut columns = output.block::<R>(begin, cols, head, self.arguments.x.apart(y));
                columns.overlap &= !staged;
                let fresh = !one || first == rows.begin;
                // SAFETY: parameters have a value a column.
                let params = unsafe {
                    Sources::<T, 2>::new::<R>([gamma, beta], tiles, columns, rows.len(), stream, fresh)
                };
                for at in (0..n).step_by(choices::STAGE_ROWS) {
                    let side = choices::STAGE_ROWS.min(n - at);
                    let x = x.from(at);
                    let target = if staged && output.streams() {
                        x
                    } else {
                        output.target(first + at, columns, &mut stage)
                    };
                    let asks = stream && !staged;
                    let ahead = if asks { self.arguments.x.ahead(first + at, group) } else { 0 };
                    let write = Write::<T, CENTER> { x, y: target, ahead };
                    for rows in Ordinary::new(&found.strays[at..at + side]) {
                        with_form!(params, stream, |values, PAST| write.rows::<R, _, PAST>(
                            &found.parts,
                            at,
                            rows,
                            columns,
                            values
                        ));
                        for r in rows.begin..rows.end {
                            output.finish::<R>(first + at + r, r, columns, target);
                        }
                    }
                }
                begin = columns.end;
            }
            for r in (0..n).filter(|r| found.strays[*r]) {
                // SAFETY: the row exists; nothing of it has been written.
                unsafe { exact::forward_row::<T, CENTER>(&self.arguments, first + r) };
            }
        }
        if stream || staged {
            R::fence();
        }
    }
}

impl<T: Stored, const CENTER: bool> Forward<T, CENTER> {
    /// The statistics of the first `n` rows of `x`, which are those of the tensor from `first` on.
    ///
    /// # Safety
    /// The processor has this level, and the rows exist.
    #[inline(always)]
    unsafe fn statistics<R: Register>(&self, x: Rows<T>, first: usize, n: usize, group: &mut Group) {
        let Arguments { cols, norm, .. } = self.arguments;
        let work = if CENTER { Work::Statistics } else { Work::Squares };
        side_by_side!(choices::rows::<R, T>(work), n, |row, SIDE| {
            let x = x.from(row);
            let kernel = Statistics::<T, SIDE, CENTER> { x, cols, norm };
            // SAFETY: the caller's promise.
            let found = unsafe { R::run(kernel) };
            for (r, &moments) in found.iter().enumerate() {
                let (r, parts) = (row + r, Parts::new(&norm, moments));
                (group.parts[r], group.strays[r]) = (parts, parts.stray());
                // SAFETY: the caller's promise.
                unsafe { self.arguments.save(first + r, parts.m, parts.rstd) }
            }
        });
    }
}

/// Writes y of a few rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<T, const CENTER: bool> {
    pub(super) x: Rows<T>,
    pub(super) y: Rows<T>,
    /// How many rows further on the same columns are asked for, while memory is written.
    pub(super) ahead: usize,
}

impl<T: Stored, const CENTER: bool> Write<T, CENTER> {
    /// The rows `rows`, of which row 0 has the statistics `first`.
    #[inline(always)]
    pub(super) fn rows<R: Register, P: Stored, const PAST: bool>(
        &self,
        parts: &[Parts],
        first: usize,
        rows: Range,
        columns: Columns,
        values: Values<P, 2>,
    ) {
        if const { PAST && half_lines::<R, T>() } && self.y.streams() {
            for row in rows.begin..rows.end {
                let i = first + row;
                for pair in columns.pairs::<R>(self.y.half_a_line::<R>(columns)) {
                    match pair {
                        Pair::Both(at) => self.pair::<R, P>(parts, i, row, at, &values),
                        Pair::One(at) => self.block::<R, P, 1, true, false>(parts, i, row, at, &values),
                    }
                }
                for at in columns.ragged::<R>() {
                    self.block::<R, P, 1, false, PAST>(parts, i, row, at, &values);
                }
            }
            return;
        }
        side_by_side!(const { choices::rows::<R, T>(Work::NormForward) }, rows.len(), |row, SIDE| {
            let row = rows.begin + row;
            self.columns::<R, P, SIDE, PAST>(parts, first + row, row, columns, &values);
        });
    }

    /// `N` rows from `row` on, of which the first has the statistics `first`.
    #[inline(always)]
    pub(super) fn columns<R: Register, P: Stored, const N: usize, const PAST: bool>(
        &self,
        parts: &[Parts],
        first: usize,
        row: usize,
        columns: Columns,
        values: &Values<P, 2>,
    ) {
        for at in columns.whole::<R>() {
            self.block::<R, P, N, true, PAST>(parts, first, row, at, values);
        }
        for at in columns.ragged::<R>() {
            if columns.overlap {
                self.block::<R, P, N, true, PAST>(parts, first, row, at, values);
            } else {
                self.block::<R, P, N, false, PAST>(parts, first, row, at, values);
            }
        }
    }

    #[inline(always)]
    fn block<R: Register, P: Stored, const N: usize, const WHOLE: bool, const PAST: bool>(
        &self,
        parts: &[Parts],
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
            let x = self.x.load::<R, WHOLE>(row + r, at);
            y[r] = Self::x_hat(&parts[first + r], x).mul_add(gamma, beta);
        }
        // After all loads: rows that lie a multiple of 4096 bytes apart would make loads wait for stores.
        for r in 0..N {
            self.y.store::<R, WHOLE, PAST>(row + r, at, y[r]);
        }
    }

    /// Two neighbours of a row, which are a line of the output.
    #[inline(always)]
    fn pair<R: Register, P: Stored>(
        &self,
        parts: &[Parts],
        first: usize,
        row: usize,
        at: [At; 2],
        values: &Values<P, 2>,
    ) {
        let mut y = [Lanes::splat(0.0); 2];
        self.x.prefetch::<R, true>(row + self.ahead, at[0]);
        for k in 0..2 {
            let (gamma, beta) = (values.load::<R, true>(0, at[k]), values.load::<R, true>(1, at[k]));
            y[k] = Self::x_hat(&parts[first], self.x.load::<R, true>(row, at[k])).mul_add(gamma, beta);
        }
        for k in 0..2 {
            self.y.store::<R, true, true>(row, at[k], y[k]);
        }
    }

    /// x̂ of a row.
    #[inline(always)]
    fn x_hat<R: Register>(parts: &Parts, x: Lanes<R>) -> Lanes<R> {
        let rstd = Lanes::splat(parts.rstd);
        if CENTER { (x - Lanes::splat(parts.m)).mul_add(rstd, Lanes::splat(parts.shift)) } else { x * rstd }
    }
}
