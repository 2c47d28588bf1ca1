//! dx = alpha·g with g = dy·gamma·f′(u), and the sums over rows from which the gradients of the parameters are made.
//!
//! Each sum is kept a column apart: dy·f for dgamma, dy for dbeta, dy·f′·x for dalpha, dy·f′ for dshift. The factor
//! gamma of the last two does not vary along a column and joins once, when the columns are added up. So the bits of
//! a column depend on its chunk of rows alone, however the columns are cut.

use super::Backward;
use crate::cpu::choices::{self, STAGE_ROWS};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::math::Curve;
use crate::cpu::param::{Sources, Values, with_form};
use crate::cpu::plan::{Range, Tile};
use crate::cpu::residual::{Joins, Wide, put};
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stage::{Lines, Stage};
use crate::cpu::stored::Stored;
use crate::cpu::sums::Sums;
use crate::cpu::tensor::Tensor;
use crate::cpu::tile::{Slots, Tiles};

/// The backward of one tile of one chunk of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardTile<T, C> {
    pub(super) arguments: Backward<T, C>,
    pub(super) tile: Tile,
    /// The sums of this chunk.
    pub(super) sums: Sums,
}

impl<T: Stored, C: Curve> Kernel for BackwardTile<T, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self { arguments: Backward { dy, x, dx, dsum, gamma, alpha, shift, .. }, tile, sums } = self;
        let Tile { rows, cols, .. } = tile;
        let stream = dx.streams();
        // Aligning dx pays only where memory bounds this pass. The slot of a sum is its column, so that the order of the sums does
        // not depend on the address. bf16 keeps even and odd columns apart and cannot do that.
        let heads = stream && !T::SPLIT;
        let dx = dx.on_level::<R>(if heads { Lines::Headed } else { Lines::Plain });
        let first_head = if heads { dx.head::<R>() } else { 0 };
        if first_head > 0 && cols.end == sums.cols {
            sums.clear_behind();
        }
        // Those of f32: what the parameters' gradients are made of is f32 whatever the type.
        let curve = C::new::<R, f32>(alpha, shift);
        let mut stage = Stage::new();
        let mut tiles = Tiles::<1>::new();
        let tiles = tiles.slots();
        let joins = Joins::new(dsum, dx);
        let wide = joins.map(|_| Wide::new(&mut stage));
        let block = |begin, head| {
            let columns = Columns { overlap: false, ..dx.block::<R>(begin, cols.end, head, false) };
            if joins.is_some() { Joins::<T>::columns(columns) } else { columns }
        };
        let one = block(cols.begin, first_head).end == cols.end;
        // The form for memory leaves dx to dsum.
        let past = stream || joins.is_some();
        for group in rows.parts(choices::pointwise_group(stream && !one, rows.len())) {
            let (mut begin, mut head) = (cols.begin, first_head);
            while begin < cols.end {
                let columns = block(begin, head);
                // SAFETY: gamma has a value a column.
                let params =
                    unsafe { Sources::<T, 1>::new::<R>([gamma], tiles, columns, rows.len(), past, true) };
                let place = Place { in_place: sums.in_place(), zipped: sums.zipped, cols: sums.cols };
                let sums = [0, 1, 2, 3].map(|k| sums.block::<R>(k, columns));
                for part in x.heads().parts(group, STAGE_ROWS) {
                    let target = dx.target(part.begin, columns, &mut stage);
                    let ahead = if one { STAGE_ROWS } else { group.len() };
                    let of = |tensor: Tensor<T>| if past { tensor.ahead(part.begin, ahead) } else { 0 };
                    let (ahead, ahead_dy) = (of(x), of(dy));
                    let (x, dy) = (x.from(part.begin), dy.from(part.begin));
                    let block =
                        Block { x, dy, dx: target, wide, alpha, sums, place, curve: &curve, ahead, ahead_dy };
                    let begins = part.begin == rows.begin;
                    with_form!(params, past, |values, PAST| block.rows::<R, _, PAST>(
                        part.len(),
                        columns,
                        begins,
                        values
                    ));
                    if let (Some(joins), Some(wide)) = (joins, wide) {
                        let rows = Range { begin: 0, end: part.len() };
                        joins.write::<R>(part.begin, rows, columns, ahead, wide);
                        continue;
                    }
                    for r in 0..part.len() {
                        dx.finish::<R>(part.begin + r, r, columns, target);
                    }
                }
                (begin, head) = (columns.end, 0);
            }
        }
        if stream {
            R::fence();
        }
    }
}

/// Where the sums of columns stand.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Whether dgamma and dbeta are sums, with no room behind the last column.
    in_place: bool,
    /// As [`Sums::zipped`].
    zipped: bool,
    /// Columns of the tensor.
    cols: usize,
}

/// A few rows of a block of columns.
#[derive(Clone, Copy, Debug)]
struct Block<'a, T, C> {
    x: Rows<T>,
    dy: Rows<T>,
    dx: Rows<T>,
    /// Where dx stays in f32, if dsum joins it.
    wide: Option<Wide>,
    alpha: f32,
    /// Of dy·f, dy, dy·f′·x and, if u has a shift, dy·f′.
    sums: [Slots; 4],
    place: Place,
    curve: &'a C,
    /// How many rows further on the same columns are asked for, while memory is written.
    ahead: usize,
    /// The same of dy.
    ahead_dy: usize,
}

impl<T: Stored, C: Curve> Block<'_, T, C> {
    /// `n` rows; the sums begin with them if `begins`. Two rows at least are added before they join a sum, on every level: a
    /// chunk may have twice as many rows as one sum may take additions.
    #[inline(always)]
    fn rows<R: Register, P: Stored, const PAST: bool>(
        &self,
        n: usize,
        columns: Columns,
        begins: bool,
        values: Values<P, 1>,
    ) {
        let mut row = 0;
        while const { choices::four_rows_backward::<R>() } && n - row >= 4 {
            self.columns::<R, P, 4, PAST>(row, columns, begins && row == 0, &values);
            row += 4;
        }
        while n - row >= 2 {
            self.columns::<R, P, 2, PAST>(row, columns, begins && row == 0, &values);
            row += 2;
        }
        if row < n {
            self.columns::<R, P, 1, PAST>(row, columns, begins && row == 0, &values);
        }
    }

    #[inline(always)]
    fn columns<R: Register, P: Stored, const N: usize, const PAST: bool>(
        &self,
        row: usize,
        columns: Columns,
        begins: bool,
        values: &Values<P, 1>,
    ) {
        for at in columns.whole::<R>() {
            let gamma = values.load::<R, true>(0, at);
            self.block::<R, N, true, PAST>(row, columns, at, begins, gamma);
        }
        for at in columns.ragged::<R>() {
            let gamma = values.load::<R, false>(0, at);
            self.block::<R, N, false, PAST>(row, columns, at, begins, gamma);
        }
    }

    #[inline(always)]
    fn block<R: Register, const N: usize, const WHOLE: bool, const PAST: bool>(
        &self,
        row: usize,
        columns: Columns,
        at: At,
        begins: bool,
        gamma: Lanes<R>,
    ) {
        let factor = gamma * Lanes::splat(self.alpha);
        let zero = Lanes::splat(0.0);
        let (mut x, mut dy) = ([zero; N], [zero; N]);
        for r in 0..N {
            if PAST {
                self.x.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                // A line that the row before shares.
                if !WHOLE && self.dx.streams() {
                    self.dx.prefetch::<R, WHOLE>(row + r + self.ahead, at);
                }
                self.dy.prefetch::<R, WHOLE>(row + r + self.ahead_dy, at);
            }
            x[r] = self.x.load::<R, WHOLE>(row + r, at);
            dy[r] = self.dy.load::<R, WHOLE>(row + r, at);
        }
        let (f, slope) = self.values_and_slopes(x);
        let (mut terms, mut dx) = ([zero; 4], [zero; N]);
        for r in 0..N {
            // Not by way of h: where the slope is subnormal its rounding would be multiplied.
            dx[r] = (dy[r] * factor) * slope[r];
            let h = dy[r] * slope[r];
            if r == 0 {
                terms = [dy[r] * f[r], dy[r], h * x[r], h];
            } else {
                terms = [
                    dy[r].mul_add(f[r], terms[0]),
                    terms[1] + dy[r],
                    h.mul_add(x[r], terms[2]),
                    terms[3] + h,
                ];
            }
        }
        // After all loads: rows that lie a multiple of 4096 bytes apart would make loads wait for stores.
        for r in 0..N {
            put::<R, T, WHOLE, PAST>(self.dx, self.wide, row + r, at, dx[r]);
        }
        let at = At { slot: at.c - columns.begin, ..at };
        // Behind a ragged vector stand the sums of other columns, except at the end of the row.
        let among = !WHOLE && at.c + at.n < self.place.cols;
        for k in 0..if C::SHIFTS { 4 } else { 3 } {
            let part = among || !WHOLE && k < 2 && self.place.in_place;
            if !begins {
                terms[k] = terms[k] + if part { self.sums[k].load_part(at) } else { self.sums[k].load(at) };
            }
            if N == 1 && k < 2 && self.place.zipped {
                terms[k] = terms[k].zip();
            }
            if part {
                self.sums[k].store_part(at, terms[k]);
            } else {
                self.sums[k].store(at, terms[k]);
            }
        }
    }

    /// f and f′ of each row, two rows at a time.
    #[inline(always)]
    fn values_and_slopes<R: Register, const N: usize>(
        &self,
        x: [Lanes<R>; N],
    ) -> ([Lanes<R>; N], [Lanes<R>; N]) {
        let (mut f, mut slope) = (x, x);
        let mut r = 0;
        while r + 1 < N {
            let (values, slopes) = self.curve.value_and_slope(Lanes(x[r], x[r + 1]));
            (f[r], f[r + 1]) = (values.0, values.1);
            (slope[r], slope[r + 1]) = (slopes.0, slopes.1);
            r += 2;
        }
        if r < N {
            (f[r], slope[r]) = self.curve.value_and_slope(x[r]);
        }
        (f, slope)
    }
}
