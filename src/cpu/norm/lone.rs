//! One row that is not streamed: the arithmetic of many rows, without the arrays of a group.

use super::backward;
use super::exact;
use super::forward;
use super::projections::Projections;
use super::stats::Statistics;
use crate::cpu::lanes::{Kernel, Lanes, Register};
use crate::cpu::param::{Sources, with_values};
use crate::cpu::plan::Range;
use crate::cpu::rows::Columns;
use crate::cpu::stage::Stage;
use crate::cpu::stored::Stored;
use crate::cpu::sum::Compensated;
use crate::cpu::sums::Sums;
use crate::cpu::tile::{BLOCK, Tiles};

/// The forward of the first row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward<T, const CENTER: bool>(pub(super) forward::Arguments<T>);

impl<T: Stored, const CENTER: bool> Kernel for Forward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let forward::Arguments { x, residual, y, gamma, beta, norm, cols, .. } = self.0;
        let (x, y) = (x.from(0), y.from(0));
        if let Some(residual) = residual {
            residual.into_sum::<R>(Range { begin: 0, end: 1 }, Columns::plain(0, cols));
        }
        // SAFETY: the processor has this level, and the row exists.
        let [moments] = unsafe { R::run(Statistics::<T, 1, CENTER> { x, cols, norm }) };
        let parts = forward::Parts::new(&norm, moments);
        if parts.stray() {
            // SAFETY: the row exists; nothing of it has been written.
            return unsafe { exact::forward_row::<T, CENTER>(&self.0, 0) };
        }
        // SAFETY: the row exists.
        unsafe { self.0.save(0, parts.m, parts.rstd) }
        let mut tiles = Tiles::<2>::new();
        let tiles = tiles.slots();
        let write = forward::Write::<T, CENTER> { x, y, ahead: 0 };
        let (mut begin, mut head) = (0, y.head(Lanes::<R>::LANES));
        while begin < cols {
            let end = cols.min(begin + head + BLOCK);
            let overlap = x.apart(y) && end - begin >= Lanes::<R>::LANES;
            let columns = Columns { begin, end, head, overlap };
            // SAFETY: parameters have a value a column.
            let params = unsafe { Sources::<T, 2>::new::<R>([gamma, beta], tiles, columns, 1, false, true) };
            with_values!(params, |values| write.columns::<R, _, 1, false>(&[parts], 0, 0, columns, &values));
            (begin, head) = (end, 0);
        }
    }
}

/// The backward of the first row, without a dsum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backward<T, const CENTER: bool> {
    pub(super) arguments: backward::Arguments<T>,
    /// Whether the first vector ends at a boundary of dx.
    pub(super) heads: bool,
    pub(super) sums: Sums,
}

impl<T: Stored, const CENTER: bool> Kernel for Backward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(mut self) {
        let backward::Arguments { dy, x, dx, gamma, cols, .. } = self.arguments;
        let (dy, x) = (dy.from(0), x.from(0));
        // SAFETY: the processor has this level.
        let parts = unsafe { self.parts::<R>() };
        self.sums.head = if self.heads { dx.head::<R>() } else { 0 };
        let sums = self.sums;
        if parts.stray {
            sums.clear();
            // SAFETY: the row exists, and the sums have begun.
            return unsafe { self.arguments.exact::<R, CENTER>(&sums, 0) };
        }
        let mut stage = Stage::new();
        let mut tiles = Tiles::<1>::new();
        let tiles = tiles.slots();
        let (mut begin, mut head) = (0, sums.head);
        while begin < cols {
            let columns = Columns { overlap: false, ..dx.block::<R>(begin, cols, head, false) };
            // SAFETY: gamma has a value a column.
            let params = unsafe { Sources::<T, 1>::new::<R>([gamma], tiles, columns, 1, false, true) };
            let write = backward::Write::<T, CENTER> {
                x,
                dy,
                dx: dx.target(0, columns, &mut stage),
                wide: None,
                sums: [0, 1].map(|k| sums.block::<R>(k, columns)),
                zipped: sums.zipped,
                ahead: 0,
                ahead_dy: 0,
            };
            with_values!(params, |values| write.columns::<R, _, 1, false>(
                &[parts],
                0,
                0,
                columns,
                true,
                &values
            ));
            (begin, head) = (columns.end, 0);
        }
    }
}

impl<T: Stored, const CENTER: bool> Backward<T, CENTER> {
    /// What dx is made of.
    ///
    /// # Safety
    /// The processor has this level.
    #[inline(always)]
    unsafe fn parts<R: Register>(&self) -> backward::Parts {
        let backward::Arguments { dy, x, gamma, mean, rstd, norm, cols, .. } = self.arguments;
        let (dy, x) = (dy.from(0), x.from(0));
        // SAFETY: the row exists.
        let (mean, rstd) = unsafe { (backward::saved(mean, 0), backward::saved(rstd, 0)) };
        let m = match mean {
            Some(mean) => mean,
            // SAFETY: the caller's promise.
            None if CENTER => unsafe { R::run(Statistics::<T, 1, CENTER> { x, cols, norm })[0].m },
            None => 0.0,
        };
        let mut tiles = Tiles::<1>::new();
        let (tiles, mut totals) = (tiles.slots(), [[Compensated::ZERO; 4]]);
        let mut begin = 0;
        while begin < cols {
            let columns = Columns::plain(begin, cols.min(begin + BLOCK));
            // SAFETY: gamma has a value a column.
            let params = unsafe { Sources::<T, 1>::new::<R>([gamma], tiles, columns, 1, false, true) };
            let kernel = Projections::<T, 1, CENTER> { x, dy, m: [m], params, columns, totals: &mut totals };
            // SAFETY: the caller's promise.
            unsafe { R::run(kernel) };
            begin = columns.end;
        }
        let mut sums = [0.0; 4];
        for k in 0..4 {
            sums[k] = totals[0][k].total();
        }
        backward::Parts::new(&norm, m, rstd, sums)
    }
}
