//! v of a quantised y: f32, for a portion of x in f32. The statistics are those of the rows as they are stored.

use super::exact::{Line, Statistics as Exact};
use super::forward::{Arguments, Ordinary, Parts, Write};
use super::runs;
use super::stats::{Moments, Norm, Statistics, strays};
use crate::Problem;
use crate::cpu::choices::GROUP;
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, MAX_LANES, Register};
use crate::cpu::launch::Launch;
use crate::cpu::level::Isa;
use crate::cpu::param::{Param, Sources};
use crate::cpu::plan::{RUN_TILE, Range};
use crate::cpu::quant::{self, PerPosition, Portion, row};
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stored::Stored;
use crate::ops::ForwardPtrs;

/// LayerNorm, which has a `CENTER`, or RMSNorm.
#[derive(Clone, Copy, Debug)]
pub(in crate::cpu) struct Values<T, const CENTER: bool> {
    /// All but y.
    arguments: Arguments<T>,
    inner: usize,
}

/// The statistics of a group of rows, or of a tile of positions.
pub(in crate::cpu) struct Kept {
    rows: [Parts; GROUP],
    /// m, rstd and shift of each position, as [`Parts`] has them for a row.
    positions: [PerPosition; 3],
    /// Which rows or positions go by `exact`: f32 does not hold their squares.
    strays: [bool; RUN_TILE],
    exact: [Exact; RUN_TILE],
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            rows: [Parts::ZERO; GROUP],
            positions: [[0.0; RUN_TILE + MAX_LANES]; 3],
            strays: [false; RUN_TILE],
            exact: [Exact::default(); RUN_TILE],
        }
    }
}

impl<T: Stored, const CENTER: bool> Values<T, CENTER> {
    pub(in crate::cpu) fn new(launch: &Launch<'_, ForwardPtrs>) -> Self {
        let (problem, wanted): (&Problem, _) = (launch.problem, launch.arguments);
        let arguments = Arguments {
            // SAFETY: the arguments are checked; tasks work on disjoint rows.
            x: unsafe { launch.like_x(wanted.input().cast_mut()) },
            residual: None,
            // SAFETY: it is not followed.
            y: unsafe { launch.like_y(core::ptr::null_mut()) },
            gamma: Param::gamma(wanted.gamma, problem),
            beta: Param::beta(wanted.beta, problem),
            mean: wanted.mean,
            rstd: wanted.rstd,
            norm: Norm::new(problem),
            cols: problem.cols(),
        };
        Self { arguments, inner: problem.inner() }
    }

    /// Looks at a row once more, in f64, if f32 does not hold its squares.
    fn look_again(&self, kept: &mut Kept, i: usize, rstd: f32, line: Line<T>, index: usize) {
        kept.strays[i] = strays(rstd) > 0.0;
        if kept.strays[i] {
            let found = line.statistics::<CENTER>(&self.arguments.norm);
            // SAFETY: the statistics are null or have a value for the row.
            unsafe { self.arguments.save(index, found.mean as f32, found.rstd as f32) };
            kept.exact[i] = found;
        }
    }

    /// v of the element of row `r` and column `c` of a portion, from the statistics in f64.
    fn exact(&self, found: Exact, portion: &Portion, r: usize, c: usize, column: usize) {
        // SAFETY: parameters have a value for it.
        let (gamma, beta) =
            unsafe { (self.arguments.gamma.value(column), self.arguments.beta.value(column)) };
        let x_hat = found.x_hat(f64::from(portion.x.value(r, c)));
        portion.v.put(r, c, (x_hat * f64::from(gamma) + f64::from(beta)) as f32);
    }
}

impl<T: Stored, const CENTER: bool> quant::Values<T> for Values<T, CENTER> {
    type Kept = Kept;

    fn take_group(&mut self, group: usize, _: usize) {
        self.arguments.take_group(group);
    }
    fn look(&self, isa: Isa, rows: Range, kept: &mut Kept) {
        let Arguments { x, cols, norm, .. } = self.arguments;
        for (i, row) in (rows.begin..rows.end).enumerate() {
            let [moments] = isa.run(Statistics::<T, 1, CENTER> { x: x.from(row), cols, norm });
            let parts = Parts::new(&norm, moments);
            // SAFETY: the statistics are null or have a value for the row.
            unsafe { self.arguments.save(row, parts.m, parts.rstd) };
            kept.rows[i] = parts;
            self.look_again(kept, i, parts.rstd, Line::of(x, row, cols), row);
        }
    }

    fn write(&self, isa: Isa, kept: &Kept, number: usize, portion: &Portion) -> bool {
        let Portion { rows, columns, .. } = *portion;
        let strays = &kept.strays[number..number + rows.len()];
        let params = [self.arguments.gamma, self.arguments.beta];
        let mut portion = *portion;
        for ordinary in Ordinary::new(strays) {
            isa.run(Written::<CENTER> { portion, parts: &kept.rows[number..], ordinary, params });
            portion.fresh = false;
        }
        for r in (0..rows.len()).filter(|r| strays[*r]) {
            for c in columns.begin..columns.end {
                self.exact(kept.exact[number + r], &portion, r, c, c);
            }
        }
        !portion.fresh
    }

    fn look_first(&self, isa: Isa, n: usize, positions: Range, kept: &mut Kept) {
        let Arguments { x, cols, norm, .. } = self.arguments;
        // A tile at the end of S has fewer positions than the one before.
        kept.strays = [false; RUN_TILE];
        let found = kept.positions.each_mut().map(|values| row(values, positions.begin));
        let columns = Columns::plain(positions.begin, positions.end);
        let channels = runs::channels(x, n, self.inner);
        isa.run(FirstStatistics::<T, CENTER> { x: channels, cols, columns, norm, found });
        for (i, s) in (positions.begin..positions.end).enumerate() {
            let (m, rstd, index) = (kept.positions[0][i], kept.positions[1][i], n * self.inner + s);
            // SAFETY: the statistics are null or have a value for the position.
            unsafe { self.arguments.save(index, m, rstd) };
            self.look_again(kept, i, rstd, runs::line(x, n, self.inner, s, cols), index);
        }
    }

    fn write_first(&self, isa: Isa, kept: &Kept, _: usize, portion: &Portion) {
        let Portion { rows, columns, .. } = *portion;
        let begin = columns.begin;
        let params = [self.arguments.gamma, self.arguments.beta];
        let ordinary = |columns| {
            let portion = Portion { columns, ..*portion };
            isa.run(Channels::<CENTER> { portion, positions: &kept.positions, first: begin, params });
        };
        if !kept.strays.contains(&true) {
            return ordinary(columns);
        }
        // v may take the place of x, so that each position is written once.
        for s in columns.begin..columns.end {
            let i = s - begin;
            if !kept.strays[i] {
                ordinary(Columns::plain(s, s + 1));
                continue;
            }
            for r in 0..rows.len() {
                self.exact(kept.exact[i], portion, r, s, rows.begin + r);
            }
        }
    }
}

/// v of some rows of a portion.
struct Written<'a, const CENTER: bool> {
    portion: Portion,
    /// Those of the rows of the portion.
    parts: &'a [Parts],
    ordinary: Range,
    params: [Param; 2],
}

impl<const CENTER: bool> Kernel for Written<'_, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self { portion: Portion { x, v, rows, columns, tiles, fresh }, parts, ordinary, params } = self;
        // SAFETY: parameters have a value a column.
        let params = unsafe { Sources::<f32, 2>::new::<R>(params, tiles, columns, rows.len(), false, fresh) };
        let write = Write::<f32, CENTER> { x, y: v, ahead: 0 };
        write.rows::<R, _, false>(parts, 0, ordinary, columns, params.of_f32());
    }
}

/// The statistics of the positions `columns`, whose rows have a value in each row of `x`.
struct FirstStatistics<T, const CENTER: bool> {
    x: Rows<T>,
    cols: usize,
    columns: Columns,
    norm: Norm,
    /// m, rstd and shift.
    found: [Rows<f32>; 3],
}

impl<T: Stored, const CENTER: bool> Kernel for FirstStatistics<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for at in self.columns.whole::<R>() {
            self.vector::<R, true>(at);
        }
        for at in self.columns.ragged::<R>() {
            self.vector::<R, false>(at);
        }
    }
}

impl<T: Stored, const CENTER: bool> FirstStatistics<T, CENTER> {
    #[inline(always)]
    fn vector<R: Register, const WHOLE: bool>(&self, at: At) {
        let [Moments { m, c, variance }] =
            runs::statistics::<R, T, 1, WHOLE, CENTER>(&self.norm, self.x, self.cols, at);
        let rstd = self.norm.rstd(variance);
        let shift = (c * rstd).times_sign(Lanes::splat(-1.0));
        for (row, v) in self.found.iter().zip([m, rstd, shift]) {
            row.store::<R, WHOLE, false>(0, at, if T::SPLIT { v.zip() } else { v });
        }
    }
}

/// v of a portion of channels.
struct Channels<'a, const CENTER: bool> {
    portion: Portion,
    positions: &'a [PerPosition; 3],
    /// The position whose statistics come first.
    first: usize,
    params: [Param; 2],
}

impl<const CENTER: bool> Kernel for Channels<'_, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for at in self.portion.columns.whole::<R>() {
            self.vector::<R, true>(at);
        }
        for at in self.portion.columns.ragged::<R>() {
            self.vector::<R, false>(at);
        }
    }
}

impl<const CENTER: bool> Channels<'_, CENTER> {
    #[inline(always)]
    fn vector<R: Register, const WHOLE: bool>(&self, at: At) {
        let Portion { x, v, rows, .. } = self.portion;
        let mut found = [Lanes::<R>::splat(0.0); 3];
        for (lanes, values) in found.iter_mut().zip(self.positions) {
            // A tile has a vector's room behind its last position.
            // SAFETY: so that whole vectors may be read.
            *lanes = unsafe { Lanes::load(values.as_ptr().add(at.c - self.first)) };
        }
        let [m, rstd, shift] = found;
        for row in 0..rows.len() {
            let channel = rows.begin + row;
            // SAFETY: parameters have a value a channel.
            let [gamma, beta] = self.params.map(|param| Lanes::splat(unsafe { param.value(channel) }));
            let x = x.load::<R, WHOLE>(row, at);
            let x_hat = if CENTER { (x - m).mul_add(rstd, shift) } else { x * rstd };
            v.store::<R, WHOLE, false>(row, at, x_hat.mul_add(gamma, beta));
        }
    }
}
