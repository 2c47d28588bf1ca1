//! y of channels-first data.

use super::{Tile, Vectors, any, channels, for_tiles, line, statistics, vector};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::norm::exact;
use crate::cpu::norm::forward::Arguments;
use crate::cpu::norm::stats::{Moments, strays};
use crate::cpu::plan::Range;
use crate::cpu::residual::Residual;
use crate::cpu::rows::{At, Columns, store_part};
use crate::cpu::stored::Stored;

/// The forward of some tiles of positions.
#[derive(Clone, Copy, Debug)]
pub(in crate::cpu::norm) struct Forward<T, const CENTER: bool> {
    pub(in crate::cpu::norm) arguments: Arguments<T>,
    pub(in crate::cpu::norm) inner: usize,
    pub(in crate::cpu::norm) tiles: Range,
}

impl<T: Stored, const CENTER: bool> Kernel for Forward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Some(residual) = &self.arguments.residual else {
            return for_tiles::<R, _>(&self, self.tiles, self.inner);
        };
        for tile in self.tiles.parts(1) {
            add::<R, T>(residual, tile.begin, self.inner, self.arguments.cols);
            for_tiles::<R, _>(&self, tile, self.inner);
        }
    }
}

impl<T: Stored, const CENTER: bool> Vectors for Forward<T, CENTER> {
    #[inline(always)]
    fn vectors<R: Register, const N: usize, const WHOLE: bool>(&self, n: usize, at: At) -> bool {
        let Arguments { x, y, gamma, beta, mean, rstd, norm, cols, .. } = self.arguments;
        let (x, y) = (channels(x, n, self.inner), channels(y, n, self.inner));
        let found = statistics::<R, T, N, WHOLE, CENTER>(&norm, x, cols, at);
        let (mut rstds, mut shifts) = ([Lanes::splat(0.0); N], [Lanes::splat(0.0); N]);
        let mut stray = Lanes::splat(0.0);
        for (i, &Moments { m, c, variance }) in found.iter().enumerate() {
            rstds[i] = norm.rstd(variance);
            shifts[i] = (c * rstds[i]).times_sign(Lanes::splat(-1.0));
            stray = stray + strays(rstds[i]);
            let at = vector::<R>(at, i);
            // SAFETY: the statistics are null or have a value for each position.
            unsafe {
                save::<R, T, WHOLE>(mean, n * self.inner, at, m);
                save::<R, T, WHOLE>(rstd, n * self.inner, at, rstds[i]);
            }
        }
        if any(stray) {
            return false;
        }
        for c in 0..cols {
            // SAFETY: parameters have a value a channel.
            let (gamma, beta) = unsafe { (Lanes::splat(gamma.value(c)), Lanes::splat(beta.value(c))) };
            for i in 0..N {
                let at = vector::<R>(at, i);
                let x = x.load::<R, WHOLE>(c, at);
                let x_hat = if CENTER { (x - found[i].m).mul_add(rstds[i], shifts[i]) } else { x * rstds[i] };
                y.store::<R, WHOLE, false>(c, at, x_hat.mul_add(gamma, beta));
            }
        }
        true
    }

    fn single(&self, n: usize, s: usize) {
        let (arguments, inner) = (&self.arguments, self.inner);
        let Arguments { x, y, cols, .. } = *arguments;
        let (x, y) = (line(x, n, inner, s, cols), line(y, n, inner, s, cols));
        // SAFETY: the row exists, with statistics and parameters.
        unsafe { exact::forward_line::<T, CENTER>(arguments, x, y, n * inner + s) };
    }
}

/// Adds the residual of tile `index`: a row for each channel, a column for each position.
#[inline(always)]
fn add<R: Register, T: Stored>(residual: &Residual<T>, index: usize, inner: usize, cols: usize) {
    let Tile { n, positions } = Tile::number(index, inner);
    let channels = Range { begin: 0, end: cols };
    residual.run(n, 0, inner).into_sum::<R>(channels, Columns::plain(positions.begin, positions.end));
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
    mut v: Lanes<R>,
) {
    if p.is_null() {
        return;
    }
    if T::SPLIT {
        v = v.zip();
    }
    let p = p.wrapping_add(first + at.c);
    // SAFETY: the caller's promise.
    unsafe { if WHOLE { f32::store(p, v) } else { store_part(p, at.n, v) } }
}
