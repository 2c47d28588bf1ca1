//! dx = rstd·(h − a − x̂·b) with h = dy·gamma, a = Σh/cols (LayerNorm alone) and b from Σh·x̂; dgamma = Σ dy·x̂ and
//! dbeta = Σ dy over rows.

use super::exact::{self, Line};
use super::forward::Ordinary;
use super::projections::Projections;
use super::stats::{Norm, Statistics, strays};
use crate::cpu::choices::{self, GROUP, STAGE_ROWS, Work, side_by_side};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register, quiet};
use crate::cpu::param::{Param, Sources, Values, with_form};
use crate::cpu::plan::Range;
use crate::cpu::residual::{Joins, Wide, put};
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stage::{Lines, Output, Stage};
use crate::cpu::stored::Stored;
use crate::cpu::sum::Compensated;
use crate::cpu::sums::Sums;
use crate::cpu::tensor::Tensor;
use crate::cpu::tile::{BLOCK, Slots, Tiles};

/// The arguments of a norm's backward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<T> {
    pub(super) dy: Tensor<T>,
    pub(super) x: Tensor<T>,
    pub(super) dx: Output<T>,
    /// What joins dx.
    pub(super) dsum: Option<Tensor<T>>,
    pub(super) gamma: Param,
    /// Null where the forward did not save it, like `rstd`; one value a row.
    pub(super) mean: *const f32,
    pub(super) rstd: *const f32,
    pub(super) norm: Norm,
    pub(super) cols: usize,
}

impl<T: Stored> Arguments<T> {
    /// Takes the parameter of a group of rows.
    #[cold]
    pub(super) fn take_group(&mut self, group: usize) {
        self.gamma = self.gamma.further(group * self.cols);
    }

    /// A row in f64.
    ///
    /// # Safety
    /// The row exists, and the sums have begun.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn exact<R: Register, const CENTER: bool>(&self, sums: &Sums, row: usize) {
        let Self { dy, x, dx, dsum, cols, .. } = *self;
        let dx = [dx.rows(), dsum].map(|tensor| Some(Line::of(tensor?, row, cols)));
        let mut add = |c: usize, product: f32, sum: f32| sums.add::<R>(c, &[product, sum]);
        let (dy, x) = (Line::of(dy, row, cols), Line::of(x, row, cols));
        // SAFETY: the caller's promise.
        unsafe { exact::backward_line::<T, CENTER>(self, dy, x, dx, &mut add) };
    }
}

/// The saved mean or rstd of row `row`, [`quiet`], if it was saved.
///
/// # Safety
/// `p` is null or has a value for the row.
#[inline(always)]
pub(super) unsafe fn saved(p: *const f32, row: usize) -> Option<f32> {
    // SAFETY: the caller's promise.
    if p.is_null() { None } else { Some(quiet(unsafe { *p.add(row) })) }
}

/// What a row's x̂ and dx are made of: x̂ = (x − m)·rstd + shift and dx = h·rstd − (x̂·b + a).
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) m: f32,
    pub(super) rstd: f32,
    /// −c·rstd.
    pub(super) shift: f32,
    pub(super) a: f32,
    pub(super) b: f32,
    /// Whether f32 may not hold the squares of the row, or their products with h.
    pub(super) stray: bool,
}

impl Parts {
    const ZERO: Self = Self { m: 0.0, rstd: 0.0, shift: 0.0, a: 0.0, b: 0.0, stray: false };

    /// From the origin m and Σd, Σd², Σh and Σh·d with d = x − m.
    #[inline(always)]
    pub(super) fn new(norm: &Norm, m: f32, saved_rstd: Option<f32>, [d, dd, h, hd]: [f32; 4]) -> Self {
        let (c, variance) = norm.moments(d, dd);
        let own = norm.rstd(variance);
        let rstd = saved_rstd.unwrap_or(own);
        let b = rstd * norm.projection(rstd * (hd - c * h), variance, rstd);
        Self {
            m,
            rstd,
            shift: -(c * rstd),
            a: rstd * norm.average(h),
            b,
            stray: strays(own) > 0.0 || !b.is_finite(),
        }
    }
}

/// The backward of one chunk of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backward<T, const CENTER: bool> {
    pub(super) arguments: Arguments<T>,
    /// Whether dx goes past the cache; the rows to come are then asked for.
    pub(super) stream: bool,
    /// Whether the first vector of a row ends at a boundary of dx.
    pub(super) heads: bool,
    pub(super) rows: Range,
    /// The sums of this chunk.
    pub(super) sums: Sums,
}

/// The rows of a group: their origins, then what they are made of.
#[derive(Clone, Copy, Debug)]
struct Group {
    m: [f32; GROUP],
    parts: [Parts; GROUP],
    strays: [bool; GROUP],
}

impl Group {
    const ZERO: Self = Self { m: [0.0; GROUP], parts: [Parts::ZERO; GROUP], strays: [false; GROUP] };
}

impl<T: Stored, const CENTER: bool> Kernel for Backward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(mut self) {
        let Self { arguments: Arguments { dx, gamma, cols, .. }, stream, rows, .. } = self;
        let dx = dx.on_level::<R>(if self.heads { Lines::Headed } else { Lines::Plain });
        self.sums.head = if self.heads { dx.head::<R>() } else { 0 };
        let sums = self.sums;
        let mut stage = Stage::new();
        let mut tiles = Tiles::<2>::new();
        // Sums along a row begin at column 0 whatever the address; what is written begins at a boundary. Where the vectors
        // of the two passes differ, so do the tiles.
        let [read_tile, mut write_tile] = tiles.slots();
        let joins = Joins::new(self.arguments.dsum, dx);
        let wide = joins.map(|_| Wide::new(&mut stage));
        let block = |begin, head| {
            let columns = Columns { overlap: false, ..dx.block::<R>(begin, cols, head, false) };
            if joins.is_some() { Joins::<T>::columns(columns) } else { columns }
        };
        let first_block = block(0, sums.head);
        // The form for memory leaves dx to dsum.
        let past = stream || joins.is_some();
        let (one_read, one_write) = (cols <= BLOCK, first_block.end == cols);
        let same = one_read && one_write && first_block.head == 0;
        if same {
            write_tile = read_tile;
        }
        // By the columns alone: rows that stray join the sums behind their group, and so their place follows from it.
        let group = if one_read { STAGE_ROWS } else { GROUP };
        let (mut found, mut begun) = (Group::ZERO, false);
        for part in self.arguments.x.heads().parts(rows, group) {
            let (first, n) = (part.begin, part.len());
            let fresh = first == rows.begin;
            // SAFETY: the rows exist, and the parameters have a value a column.
            unsafe { self.parts::<R>(first, n, (read_tile, fresh || !one_read, past), &mut found) };
            let mut begin = 0;
            while begin < cols {
                let head = if begin == 0 { sums.head } else { 0 };
                let columns = block(begin, head);
                let fresh = !same && (fresh || !one_write);
                // SAFETY: gamma has a value a column.
                let params = unsafe {
                    Sources::<T, 1>::new::<R>([gamma], [write_tile], columns, rows.len(), past, fresh)
                };
                let mut begins = !begun;
                for at in (0..n).step_by(STAGE_ROWS) {
                    let side = STAGE_ROWS.min(n - at);
                    let target = dx.target(first + at, columns, &mut stage);
                    let Arguments { x, dy, .. } = self.arguments;
                    let of = |tensor: Tensor<T>| if past { tensor.ahead(first + at, group) } else { 0 };
                    let (ahead, ahead_dy) = (of(x), of(dy));
                    let (x, dy) = (x.from(first + at), dy.from(first + at));
                    let sums = [sums.block::<R>(0, columns), sums.block::<R>(1, columns)];
                    let write = Write::<T, CENTER> {
                        x,
                        dy,
                        dx: target,
                        wide,
                        sums,
                        zipped: self.sums.zipped,
                        ahead,
                        ahead_dy,
                    };
                    for rows in Ordinary::new(&found.strays[at..at + side]) {
                        with_form!(params, past, |values, PAST| write.rows::<R, _, PAST>(
                            &found.parts,
                            at,
                            rows,
                            columns,
                            begins,
                            values
                        ));
                        begins = false;
                        if let (Some(joins), Some(wide)) = (joins, wide) {
                            joins.write::<R>(first + at, rows, columns, ahead, wide);
                            continue;
                        }
                        for r in rows.begin..rows.end {
                            dx.finish::<R>(first + at + r, r, columns, target);
                        }
                    }
                }
                begin = columns.end;
            }
            begun |= found.strays[..n].iter().any(|strays| !strays);
            for r in (0..n).filter(|r| found.strays[*r]) {
                if !begun {
                    sums.clear();
                    begun = true;
                }
                // SAFETY: the row exists.
                unsafe { self.arguments.exact::<R, CENTER>(&sums, first + r) };
            }
        }
        if self.stream {
            R::fence();
        }
    }
}

impl<T: Stored, const CENTER: bool> Backward<T, CENTER> {
    /// What dx of `n` rows from `first` on is made of. The tile of gamma is filled if it is fresh, for the form that writes dx
    /// too: `past` is whether that is the one for memory.
    ///
    /// # Safety
    /// The processor has this level; the rows exist, with saved statistics if they are not null.
    #[inline(always)]
    unsafe fn parts<R: Register>(
        &self,
        first: usize,
        n: usize,
        (tile, fresh, past): (Slots, bool, bool),
        group: &mut Group,
    ) {
        let Arguments { x, dy, gamma, rstd, norm, cols, .. } = self.arguments;
        // SAFETY: the caller's promise.
        unsafe { self.means::<R>(first, n, &mut group.m) };
        let mut totals = [[Compensated::ZERO; 4]; GROUP];
        let mut begin = 0;
        while begin < cols {
            let columns = Columns::plain(begin, cols.min(begin + BLOCK));
            // SAFETY: gamma has a value a column.
            let params =
                unsafe { Sources::<T, 1>::new::<R>([gamma], [tile], columns, self.rows.len(), past, fresh) };
            side_by_side!(const { choices::rows::<R, T>(Work::Projections) }, n, |row, SIDE| {
                let (x, dy) = (x.from(first + row), dy.from(first + row));
                let mut m = [0.0; SIDE];
                m.copy_from_slice(&group.m[row..row + SIDE]);
                let totals = &mut totals[row..row + SIDE];
                let kernel = Projections::<T, SIDE, CENTER> { x, dy, m, params, columns, totals };
                // SAFETY: the caller's promise.
                unsafe { R::run(kernel) };
            });
            begin = columns.end;
        }
        for r in 0..n {
            let mut sums = [0.0; 4];
            for k in 0..4 {
                sums[k] = totals[r][k].total();
            }
            // SAFETY: the caller's promise.
            let saved = unsafe { saved(rstd, first + r) };
            let parts = Parts::new(&norm, group.m[r], saved, sums);
            (group.parts[r], group.strays[r]) = (parts, parts.stray);
        }
    }

    /// The origins of `n` rows from `first` on: their means, rounded. The moments about them are gathered with the other
    /// sums, so that a saved mean gives the same bits.
    ///
    /// # Safety
    /// As [`Self::parts`].
    #[inline(always)]
    unsafe fn means<R: Register>(&self, first: usize, n: usize, m: &mut [f32; GROUP]) {
        let Arguments { x, norm, cols, mean, .. } = self.arguments;
        if !CENTER {
            return;
        }
        if !mean.is_null() {
            for r in 0..n {
                // SAFETY: the caller's promise.
                m[r] = unsafe { saved(mean, first + r) }.unwrap_or(0.0);
            }
            return;
        }
        side_by_side!(const { choices::rows::<R, T>(Work::Statistics) }, n, |row, SIDE| {
            let x = x.from(first + row);
            let kernel = Statistics::<T, SIDE, CENTER> { x, cols, norm };
            // SAFETY: the caller's promise.
            let found = unsafe { R::run(kernel) };
            for (r, found) in found.iter().enumerate() {
                m[row + r] = found.m;
            }
        });
    }
}

/// Writes dx of a few rows, and adds to the sums of columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<T, const CENTER: bool> {
    pub(super) x: Rows<T>,
    pub(super) dy: Rows<T>,
    pub(super) dx: Rows<T>,
    /// Where dx stays in f32, if dsum joins it.
    pub(super) wide: Option<Wide>,
    /// Of dy·x̂, and of dy.
    pub(super) sums: [Slots; 2],
    /// As [`Sums::zipped`].
    pub(super) zipped: bool,
    /// How many rows further on the same columns are asked for, while memory is written.
    pub(super) ahead: usize,
    /// The same of dy.
    pub(super) ahead_dy: usize,
}

impl<T: Stored, const CENTER: bool> Write<T, CENTER> {
    /// The rows `rows`, of which row 0 has the parts `first`; the sums begin with them if `begins`.
    #[inline(always)]
    fn rows<R: Register, P: Stored, const PAST: bool>(
        &self,
        parts: &[Parts],
        first: usize,
        rows: Range,
        columns: Columns,
        begins: bool,
        values: Values<P, 1>,
    ) {
        side_by_side!(const { choices::rows::<R, T>(Work::NormBackward) }, rows.len(), |row, SIDE| {
            let (begins, row) = (begins && row == 0, rows.begin + row);
            self.columns::<R, P, SIDE, PAST>(parts, first + row, row, columns, begins, &values);
        });
    }

    /// `N` rows from `row` on, of which the first has the parts `first`.
    #[inline(always)]
    pub(super) fn columns<R: Register, P: Stored, const N: usize, const PAST: bool>(
        &self,
        parts: &[Parts],
        first: usize,
        row: usize,
        columns: Columns,
        begins: bool,
        values: &Values<P, 1>,
    ) {
        for at in columns.whole::<R>() {
            self.block::<R, P, N, true, PAST>(parts, first, row, at, begins, values);
        }
        for at in columns.ragged::<R>() {
            self.block::<R, P, N, false, PAST>(parts, first, row, at, begins, values);
        }
    }

    #[inline(always)]
    fn block<R: Register, P: Stored, const N: usize, const WHOLE: bool, const PAST: bool>(
        &self,
        parts: &[Parts],
        first: usize,
        row: usize,
        at: At,
        begins: bool,
        values: &Values<P, 1>,
    ) {
        let gamma = values.load::<R, WHOLE>(0, at);
        let (mut product, mut sum) = (Lanes::splat(0.0), Lanes::splat(0.0));
        if !begins {
            (product, sum) = (self.sums[0].load(at), self.sums[1].load(at));
        }
        let mut dx = [Lanes::<R>::splat(0.0); N];
        for r in 0..N {
            let parts = &parts[first + r];
            if PAST {
                self.x.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                // A line that the row before shares.
                if !WHOLE && self.dx.streams() {
                    self.dx.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                }
                self.dy.prefetch::<R, WHOLE>(row + r + self.ahead_dy, at);
            }
            let x = self.x.load::<R, WHOLE>(row + r, at);
            let dy = self.dy.load::<R, WHOLE>(row + r, at);
            let (rstd, b) = (Lanes::splat(parts.rstd), Lanes::splat(parts.b));
            let (x_hat, along);
            if CENTER {
                x_hat = (x - Lanes::splat(parts.m)).mul_add(rstd, Lanes::splat(parts.shift));
                along = x_hat.mul_add(b, Lanes::splat(parts.a));
            } else {
                x_hat = x * rstd;
                along = x_hat * b;
            }
            dx[r] = (dy * gamma).mul_sub(rstd, along);
            // Each row adds in turn, so that bits do not depend on how many rows go side by side.
            sum = sum + dy;
            product = dy.mul_add(x_hat, product);
        }
        // After all loads: rows that lie a multiple of 4096 bytes apart would make loads wait for stores.
        for r in 0..N {
            put::<R, T, WHOLE, PAST>(self.dx, self.wide, row + r, at, dx[r]);
        }
        if N == 1 && self.zipped {
            (product, sum) = (product.zip(), sum.zip());
        }
        self.sums[0].store(at, product);
        self.sums[1].store(at, sum);
    }
}
