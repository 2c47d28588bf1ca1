//! The norms of channels-first data. Each position of S is a row of its own, whose values lie `inner` apart; a vector has
//! neighbouring positions, and each lane the statistics of one.

use super::exact::{self, Line};
use super::stats::{Moments, Norm, SAMPLE, strays};
use super::{backward, forward};
use crate::cpu::choices::STEPS;
use crate::cpu::fold::Sums;
use crate::cpu::lanes::{Kernel, Lanes, MAX_LANES, Register};
use crate::cpu::plan::{RUN_TILE, Range};
use crate::cpu::rows::{At, Columns, Rows, load_part, store_part};
use crate::cpu::stored::Stored;
use crate::cpu::sum::Compensated;
use crate::cpu::tile::Slots;

/// One value for each lane.
type PerLane = [f32; MAX_LANES];

/// Vectors of positions that go side by side: more of a channel's run are read in one go, where registers hold them.
const fn side<R: Register>() -> usize {
    if R::ROWS >= 4 { 2 } else { 1 }
}

/// Where a tile of positions lies.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// The index of N, and of S.
    n: usize,
    positions: Range,
}

impl Tile {
    fn number(index: usize, inner: usize) -> Self {
        let tiles = inner.div_ceil(RUN_TILE);
        let begin = index % tiles * RUN_TILE;
        Self { n: index / tiles, positions: Range { begin, end: inner.min(begin + RUN_TILE) } }
    }
}

/// Work on a few vectors of positions.
trait Vectors {
    /// Works on `N` vectors; false, and nothing written but statistics, if f32 may not hold the squares of a row.
    fn vectors<R: Register, const N: usize, const WHOLE: bool>(&self, n: usize, at: At) -> bool;
    /// Works on one row whose squares f32 may not hold.
    fn single(&self, n: usize, s: usize);
}

#[inline(always)]
fn for_tiles<R: Register, K: Vectors>(kernel: &K, tiles: Range, inner: usize) {
    for index in tiles.begin..tiles.end {
        let Tile { n, positions } = Tile::number(index, inner);
        let Range { begin: mut s, end } = positions;
        while s < end {
            let (lanes, left) = (Lanes::<R>::LANES, end - s);
            let at = |n: usize| At { c: s, n, slot: 0 };
            let (step, done) = if side::<R>() == 2 && left >= 2 * lanes {
                (2 * lanes, kernel.vectors::<R, 2, true>(n, at(lanes)))
            } else if left >= lanes {
                (lanes, kernel.vectors::<R, 1, true>(n, at(lanes)))
            } else {
                (left, kernel.vectors::<R, 1, false>(n, at(left)))
            };
            if !done {
                one_by_one::<R, K>(kernel, n, Range { begin: s, end: s + step });
            }
            s += step;
        }
    }
}

/// A row has the same bits in any lane and beside any other.
#[cold]
#[inline(never)]
fn one_by_one<R: Register, K: Vectors>(kernel: &K, n: usize, positions: Range) {
    for s in positions.begin..positions.end {
        if !kernel.vectors::<R, 1, false>(n, At { c: s, n: 1, slot: 0 }) {
            kernel.single(n, s);
        }
    }
}

/// Vector `i` of those that begin at `at`.
#[inline(always)]
fn vector<R: Register>(at: At, i: usize) -> At {
    At { c: at.c + i * Lanes::<R>::LANES, ..at }
}

/// The rows of one index of N as kernels of this file see them: a row for each channel, a column for each position.
#[inline(always)]
fn channels<T: Stored>(rows: Rows<T>, n: usize, inner: usize) -> Rows<T> {
    rows.from(n).with_stride(inner)
}

/// Position `s` of S.
#[inline(always)]
fn line<T: Stored>(rows: Rows<T>, n: usize, inner: usize, s: usize, cols: usize) -> Line<T> {
    Line { values: channels(rows, n, inner).shifted(s), cols }
}

/// The statistics of the rows in `N` vectors.
#[inline(always)]
fn statistics<R: Register, T: Stored, const N: usize, const WHOLE: bool, const CENTER: bool>(
    norm: &Norm,
    x: Rows<T>,
    cols: usize,
    at: At,
) -> [[Moments; MAX_LANES]; N] {
    let mut found = [[Moments::ZERO; MAX_LANES]; N];
    let mut m = if CENTER { guess::<R, T, N, WHOLE>(x, cols, at) } else { [Lanes::splat(0.0); N] };
    let mut again = false;
    loop {
        let [sums, squares] = moments::<R, T, N, WHOLE, CENTER>(x, cols, at, &m);
        let mut far = false;
        for i in 0..N {
            let (sums, squares, about) = (spread(sums[i]), spread(squares[i]), spread(m[i]));
            let mut moved = about;
            for l in 0..Lanes::<R>::LANES {
                let (c, variance) = norm.moments(sums[l], squares[l]);
                let row = Moments { m: about[l], c, variance };
                found[i][l] = row;
                if CENTER && row.is_far() {
                    moved[l] += c;
                    far = true;
                }
            }
            m[i] = gathered(&moved);
        }
        if again || !far {
            break;
        }
        again = true;
    }
    if CENTER {
        for row in found.iter_mut().flatten() {
            row.settle();
        }
    }
    found
}

/// The first value of each row and the average of what a few others differ from it.
#[inline(always)]
fn guess<R: Register, T: Stored, const N: usize, const WHOLE: bool>(
    x: Rows<T>,
    cols: usize,
    at: At,
) -> [Lanes<R>; N] {
    let mut m = [Lanes::splat(0.0); N];
    let few = cols.min(SAMPLE);
    #[expect(clippy::cast_precision_loss, reason = "32 at the most")]
    let count = Lanes::splat(few as f32);
    for i in 0..N {
        let first = x.load::<R, WHOLE>(0, vector::<R>(at, i));
        let mut sum = Lanes::splat(0.0);
        for c in 1..few {
            sum = sum + (x.load::<R, WHOLE>(c, vector::<R>(at, i)) - first);
        }
        m[i] = first + sum / count;
    }
    m
}

/// Σd, for `CENTER` alone, and Σd² of each row.
#[inline(always)]
fn moments<R: Register, T: Stored, const N: usize, const WHOLE: bool, const CENTER: bool>(
    x: Rows<T>,
    cols: usize,
    at: At,
    m: &[Lanes<R>; N],
) -> [[Lanes<R>; N]; 2] {
    let zero = Lanes::splat(0.0);
    let mut totals = [[Compensated::new(zero); N]; 2];
    let mut c = 0;
    while c < cols {
        let end = cols.min(c + STEPS);
        let mut sums = [[zero; N]; 2];
        while c < end {
            for i in 0..N {
                let mut d = x.load::<R, WHOLE>(c, vector::<R>(at, i));
                if CENTER {
                    d = d - m[i];
                    sums[0][i] = sums[0][i] + d;
                }
                sums[1][i] = d.mul_add(d, sums[1][i]);
            }
            c += 1;
        }
        for i in 0..N {
            if CENTER {
                totals[0][i].add(sums[0][i]);
            }
            totals[1][i].add(sums[1][i]);
        }
    }
    let mut results = [[zero; N]; 2];
    for i in 0..N {
        results[0][i] = totals[0][i].lanes();
        results[1][i] = totals[1][i].lanes();
    }
    results
}

#[inline(always)]
fn spread<R: Register>(v: Lanes<R>) -> PerLane {
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: there is room for the widest vector.
    unsafe { v.store(lanes.as_mut_ptr()) };
    lanes
}

#[inline(always)]
fn gathered<R: Register>(lanes: &PerLane) -> Lanes<R> {
    // SAFETY: there are as many as the widest vector has.
    unsafe { Lanes::load(lanes.as_ptr()) }
}

/// Writes a value for each position `at`, in their order, from index `first` on.
///
/// # Safety
/// `p` is null or valid for writes of them.
#[inline(always)]
unsafe fn save<R: Register, T: Stored, const WHOLE: bool>(
    p: *mut f32,
    first: usize,
    at: At,
    lanes: &PerLane,
) {
    if p.is_null() {
        return;
    }
    let mut v = gathered::<R>(lanes);
    if T::SPLIT {
        v = v.zip();
    }
    let p = p.wrapping_add(first + at.c);
    // SAFETY: the caller's promise.
    unsafe { if WHOLE { f32::store(p, v) } else { store_part(p, at.n, v) } }
}

/// Reads a value for each position `at`, in the order of the lanes.
///
/// # Safety
/// `p` is valid for reads of them.
#[inline(always)]
unsafe fn saved<R: Register, T: Stored, const WHOLE: bool>(p: *const f32, at: At) -> Lanes<R> {
    // SAFETY: the caller's promise.
    let v = unsafe { if WHOLE { f32::load(p.add(at.c)) } else { load_part(p.add(at.c), at.n) } }.quiet();
    if T::SPLIT { v.unzip() } else { v }
}

/// The forward of some tiles of positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward<T, const CENTER: bool> {
    pub(super) arguments: forward::Arguments<T>,
    pub(super) inner: usize,
    pub(super) tiles: Range,
}

impl<T: Stored, const CENTER: bool> Kernel for Forward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for_tiles::<R, _>(&self, self.tiles, self.inner);
    }
}

impl<T: Stored, const CENTER: bool> Vectors for Forward<T, CENTER> {
    #[inline(always)]
    fn vectors<R: Register, const N: usize, const WHOLE: bool>(&self, n: usize, at: At) -> bool {
        let forward::Arguments { x, y, gamma, beta, mean, rstd, norm, cols } = self.arguments;
        let (x, y) = (channels(x, n, self.inner), channels(y, n, self.inner));
        let found = statistics::<R, T, N, WHOLE, CENTER>(&norm, x, cols, at);
        let (mut m, mut factor, mut shift) =
            ([Lanes::splat(0.0); N], [Lanes::splat(0.0); N], [Lanes::splat(0.0); N]);
        let mut stray = false;
        for i in 0..N {
            let mut lanes = [[0.0; MAX_LANES]; 3];
            for l in 0..Lanes::<R>::LANES {
                let Moments { m, c, variance } = found[i][l];
                let rstd = norm.rstd(variance);
                (lanes[0][l], lanes[1][l], lanes[2][l]) = (m, rstd, -(c * rstd));
                stray |= strays(rstd);
            }
            let at = vector::<R>(at, i);
            // SAFETY: the statistics are null or have a value for each position.
            unsafe {
                save::<R, T, WHOLE>(mean, n * self.inner, at, &lanes[0]);
                save::<R, T, WHOLE>(rstd, n * self.inner, at, &lanes[1]);
            }
            (m[i], factor[i], shift[i]) = (gathered(&lanes[0]), gathered(&lanes[1]), gathered(&lanes[2]));
        }
        if stray {
            return false;
        }
        for c in 0..cols {
            // SAFETY: parameters have a value a channel.
            let (gamma, beta) = unsafe { (Lanes::splat(gamma.value(c)), Lanes::splat(beta.value(c))) };
            for i in 0..N {
                let at = vector::<R>(at, i);
                let x = x.load::<R, WHOLE>(c, at);
                let x_hat = if CENTER { (x - m[i]).mul_add(factor[i], shift[i]) } else { x * factor[i] };
                y.store::<R, WHOLE, false>(c, at, x_hat.mul_add(gamma, beta));
            }
        }
        true
    }

    fn single(&self, n: usize, s: usize) {
        let (arguments, inner) = (&self.arguments, self.inner);
        let forward::Arguments { x, y, cols, .. } = *arguments;
        let (x, y) = (line(x, n, inner, s, cols), line(y, n, inner, s, cols));
        // SAFETY: the row exists, with statistics and parameters.
        unsafe { exact::forward_line::<T, CENTER>(arguments, x, y, n * inner + s) };
    }
}

/// The backward of one chunk of tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backward<T, const CENTER: bool> {
    pub(super) arguments: backward::Arguments<T>,
    pub(super) inner: usize,
    pub(super) tiles: Range,
    /// The sums of this chunk, in the order of the channels.
    pub(super) sums: Sums,
}

impl<T: Stored, const CENTER: bool> Kernel for Backward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        self.sums.clear();
        for_tiles::<R, _>(&self, self.tiles, self.inner);
    }
}

/// [`backward::Parts`] of the rows in a vector.
struct Fit<R> {
    m: Lanes<R>,
    rstd: Lanes<R>,
    shift: Lanes<R>,
    a: Lanes<R>,
    b: Lanes<R>,
}

impl<T: Stored, const CENTER: bool> Backward<T, CENTER> {
    /// The origins: the means of the rows, rounded.
    #[inline(always)]
    fn means<R: Register, const N: usize, const WHOLE: bool>(&self, n: usize, at: At) -> [Lanes<R>; N] {
        let backward::Arguments { x, mean, norm, cols, .. } = self.arguments;
        let mut m = [Lanes::splat(0.0); N];
        if !CENTER {
            return m;
        }
        if mean.is_null() {
            let x = channels(x, n, self.inner);
            let found = statistics::<R, T, N, WHOLE, CENTER>(&norm, x, cols, at);
            for i in 0..N {
                m[i] = gathered(&found[i].map(|row| row.m));
            }
        } else {
            for i in 0..N {
                // SAFETY: the mean has a value for each position.
                m[i] = unsafe { saved::<R, T, WHOLE>(mean.add(n * self.inner), vector::<R>(at, i)) };
            }
        }
        m
    }

    /// What dx is made of; None if f32 may not hold the squares of a row.
    #[inline(always)]
    fn fit<R: Register, const N: usize, const WHOLE: bool>(&self, n: usize, at: At) -> Option<[Fit<R>; N]> {
        let backward::Arguments { rstd, norm, .. } = self.arguments;
        let m = self.means::<R, N, WHOLE>(n, at);
        let sums = self.projections::<R, N, WHOLE>(n, at, &m);
        let mut stray = false;
        let fits = core::array::from_fn(|i| {
            let sums = sums[i].map(spread);
            let m = spread(m[i]);
            let at = vector::<R>(at, i);
            // SAFETY: the rstd is null or has a value for each position.
            let saved = (!rstd.is_null())
                .then(|| spread(unsafe { saved::<R, T, WHOLE>(rstd.add(n * self.inner), at) }));
            let mut lanes = [[0.0; MAX_LANES]; 4];
            for l in 0..Lanes::<R>::LANES {
                let sums = [sums[0][l], sums[1][l], sums[2][l], sums[3][l]];
                let parts = backward::Parts::new(&norm, m[l], saved.map(|saved| saved[l]), sums);
                (lanes[0][l], lanes[1][l]) = (parts.rstd, parts.shift);
                (lanes[2][l], lanes[3][l]) = (parts.a, parts.b);
                stray |= parts.strays;
            }
            let [rstd, shift, a, b] = lanes;
            Fit {
                m: gathered(&m),
                rstd: gathered(&rstd),
                shift: gathered(&shift),
                a: gathered(&a),
                b: gathered(&b),
            }
        });
        if stray { None } else { Some(fits) }
    }

    /// Σd, Σd², Σh and Σh·d of each row, with d = x − m.
    #[inline(always)]
    fn projections<R: Register, const N: usize, const WHOLE: bool>(
        &self,
        n: usize,
        at: At,
        m: &[Lanes<R>; N],
    ) -> [[Lanes<R>; 4]; N] {
        let backward::Arguments { x, dy, gamma, cols, .. } = self.arguments;
        let (x, dy) = (channels(x, n, self.inner), channels(dy, n, self.inner));
        let zero = Lanes::splat(0.0);
        let mut totals = [[Compensated::new(zero); 4]; N];
        let mut c = 0;
        while c < cols {
            let end = cols.min(c + STEPS);
            let mut sums = [[zero; 4]; N];
            while c < end {
                // SAFETY: gamma has a value a channel.
                let gamma = Lanes::splat(unsafe { gamma.value(c) });
                for i in 0..N {
                    let at = vector::<R>(at, i);
                    let (mut d, h) = (x.load::<R, WHOLE>(c, at), dy.load::<R, WHOLE>(c, at) * gamma);
                    if CENTER {
                        d = d - m[i];
                        sums[i][0] = sums[i][0] + d;
                        sums[i][2] = sums[i][2] + h;
                    }
                    sums[i][1] = d.mul_add(d, sums[i][1]);
                    sums[i][3] = h.mul_add(d, sums[i][3]);
                }
                c += 1;
            }
            for i in 0..N {
                for k in 0..4 {
                    totals[i][k].add(sums[i][k]);
                }
            }
        }
        let mut results = [[zero; 4]; N];
        for i in 0..N {
            for k in 0..4 {
                results[i][k] = totals[i][k].lanes();
            }
        }
        results
    }

    /// Sum `k` of the channels.
    #[inline(always)]
    fn slots<R: Register>(&self, k: usize) -> Slots {
        self.sums.block::<R>(k, Columns::plain(0, self.arguments.cols))
    }
}

impl<T: Stored, const CENTER: bool> Vectors for Backward<T, CENTER> {
    #[inline(always)]
    fn vectors<R: Register, const N: usize, const WHOLE: bool>(&self, n: usize, at: At) -> bool {
        let backward::Arguments { x, dy, dx, gamma, cols, .. } = self.arguments;
        let Some(fits) = self.fit::<R, N, WHOLE>(n, at) else { return false };
        let (x, dy) = (channels(x, n, self.inner), channels(dy, n, self.inner));
        let dx = dx.rows().map(|rows| channels(rows, n, self.inner));
        let (products, sums) = (self.slots::<R>(0), self.slots::<R>(1));
        let zero = Lanes::splat(0.0);
        for c in 0..cols {
            // SAFETY: gamma has a value a channel.
            let gamma = Lanes::splat(unsafe { gamma.value(c) });
            let (mut product, mut sum) = (zero, zero);
            for (i, fit) in fits.iter().enumerate() {
                let at = vector::<R>(at, i);
                let (x, dy) = (x.load::<R, WHOLE>(c, at), dy.load::<R, WHOLE>(c, at));
                let (x_hat, along);
                if CENTER {
                    x_hat = (x - fit.m).mul_add(fit.rstd, fit.shift);
                    along = x_hat.mul_add(fit.b, fit.a);
                } else {
                    x_hat = x * fit.rstd;
                    along = x_hat * fit.b;
                }
                if let Some(dx) = dx {
                    dx.store::<R, WHOLE, false>(c, at, (dy * gamma).mul_sub(fit.rstd, along));
                }
                sum = sum + dy;
                product = dy.mul_add(x_hat, product);
            }
            if !WHOLE {
                (product, sum) = (product.keep(T::mask(at.n)), sum.keep(T::mask(at.n)));
            }
            let [product, sum, ..] = Lanes::sums([product, sum, zero, zero]);
            products.put(c, products.value(c) + product);
            sums.put(c, sums.value(c) + sum);
        }
        true
    }

    fn single(&self, n: usize, s: usize) {
        let (arguments, inner) = (&self.arguments, self.inner);
        let backward::Arguments { dy, x, dx, cols, .. } = *arguments;
        let lines = (line(dy, n, inner, s, cols), line(x, n, inner, s, cols));
        let dx = dx.rows().map(|rows| line(rows, n, inner, s, cols));
        // The slots of channels stand in their order.
        let add = |c: usize, product: f32, sum: f32| self.sums.add_at(c, &[product, sum]);
        // SAFETY: gamma has a value a channel.
        unsafe { exact::backward_line::<T, CENTER>(arguments, lines.0, lines.1, dx, add) };
    }
}
