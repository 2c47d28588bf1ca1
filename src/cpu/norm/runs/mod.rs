//! The norms of channels-first data. Each position of S is a row of its own, whose values lie `inner` apart; a vector has
//! neighbouring positions, and each lane the statistics of one.

mod backward;
mod forward;

pub(super) use backward::Backward;
pub(super) use forward::Forward;

use super::exact::Line;
use super::stats::{Moments, Norm, SAMPLE};
use crate::cpu::choices::STEPS;
use crate::cpu::lanes::{Arithmetic, Lanes, MAX_LANES, Register};
use crate::cpu::plan::{RUN_TILE, Range};
use crate::cpu::rows::{At, Rows};
use crate::cpu::stored::Stored;
use crate::cpu::sum::Compensated;
use crate::cpu::tensor::Tensor;

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

/// Works on the tiles that `tiles` counts. Vectors that were refused are gone through again row by row: a row has the same bits
/// in any lane and beside any other.
#[inline(always)]
fn for_tiles<R: Register, K: Vectors>(kernel: &K, tiles: Range, inner: usize) {
    for index in tiles.begin..tiles.end {
        let Tile { n, positions } = Tile::number(index, inner);
        let Range { begin: mut s, end } = positions;
        // The positions before this one go one by one.
        let mut apart = s;
        while s < end {
            let (lanes, left) = (Lanes::<R>::LANES, if s < apart { 1 } else { end - s });
            let at = |n: usize| At { c: s, n, slot: 0 };
            let (step, done) = if side::<R>() == 2 && left >= 2 * lanes {
                (2 * lanes, kernel.vectors::<R, 2, true>(n, at(lanes)))
            } else if left >= lanes {
                (lanes, kernel.vectors::<R, 1, true>(n, at(lanes)))
            } else {
                (left, kernel.vectors::<R, 1, false>(n, at(left)))
            };
            if done {
                s += step;
            } else if step == 1 {
                kernel.single(n, s);
                s += 1;
            } else {
                apart = s + step;
            }
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
pub(super) fn channels<T: Stored>(tensor: Tensor<T>, n: usize, inner: usize) -> Rows<T> {
    tensor.from(n).with_stride(inner)
}

/// Position `s` of S.
#[inline(always)]
pub(super) fn line<T: Stored>(tensor: Tensor<T>, n: usize, inner: usize, s: usize, cols: usize) -> Line<T> {
    Line { values: channels(tensor, n, inner).shifted(s), cols }
}

/// The statistics of the rows in `N` vectors.
#[inline(always)]
pub(super) fn statistics<R: Register, T: Stored, const N: usize, const WHOLE: bool, const CENTER: bool>(
    norm: &Norm,
    x: Rows<T>,
    cols: usize,
    at: At,
) -> [Moments<Lanes<R>>; N] {
    let zero = Lanes::splat(0.0);
    let m = if CENTER { guess::<R, T, N, WHOLE>(x, cols, at) } else { [zero; N] };
    let mut found = [Moments::about(zero); N];
    for i in 0..N {
        found[i].m = m[i];
    }
    let mut again = false;
    loop {
        let [sums, squares] = moments::<R, T, N, WHOLE, CENTER>(x, cols, at, &found);
        let mut far = zero;
        for i in 0..N {
            (found[i].c, found[i].variance) = norm.moments(sums[i], squares[i]);
            far = far + found[i].far();
        }
        if !CENTER {
            return found;
        }
        if again || !any(far) {
            break;
        }
        for row in &mut found {
            row.m = zero.if_less(row.far(), row.m + row.c, row.m);
        }
        again = true;
    }
    for row in &mut found {
        row.settle();
    }
    found
}

/// Whether a lane is above 0, of numbers that are at least 0.
#[inline(always)]
fn any<R: Register>(v: Lanes<R>) -> bool {
    let zero = Lanes::splat(0.0);
    Lanes::sums([v, zero, zero, zero])[0] > 0.0
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
    about: &[Moments<Lanes<R>>; N],
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
                    d = d - about[i].m;
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
