//! dx of channels-first data, and the sums of each channel.

use super::{Vectors, channels, for_tiles, gathered, line, spread, statistics, vector};
use crate::cpu::choices::STEPS;
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, MAX_LANES, Register};
use crate::cpu::norm::backward::{Arguments, Parts};
use crate::cpu::norm::exact;
use crate::cpu::plan::Range;
use crate::cpu::rows::At;
use crate::cpu::stored::Stored;
use crate::cpu::sum::Compensated;
use crate::cpu::sums::Sums;

/// The backward of one chunk of tiles.
#[derive(Clone, Copy, Debug)]
pub(in crate::cpu::norm) struct Backward<T, const CENTER: bool> {
    pub(in crate::cpu::norm) arguments: Arguments<T>,
    pub(in crate::cpu::norm) inner: usize,
    pub(in crate::cpu::norm) tiles: Range,
    /// The sums of this chunk, in the order of the channels.
    pub(in crate::cpu::norm) sums: Sums,
}

impl<T: Stored, const CENTER: bool> Kernel for Backward<T, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        self.sums.clear();
        for_tiles::<R, _>(&self, self.tiles, self.inner);
        self.sums.settle();
    }
}

/// [`Parts`] of the rows in a vector.
#[derive(Clone, Copy)]
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
        let Arguments { x, mean, norm, cols, .. } = self.arguments;
        let mut m = [Lanes::splat(0.0); N];
        if !CENTER {
            return m;
        }
        if mean.is_null() {
            let x = channels(x, n, self.inner);
            let found = statistics::<R, T, N, WHOLE, CENTER>(&norm, x, cols, at);
            for i in 0..N {
                m[i] = found[i].m;
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
        let Arguments { rstd, norm, .. } = self.arguments;
        let m = self.means::<R, N, WHOLE>(n, at);
        let sums = self.projections::<R, N, WHOLE>(n, at, &m);
        let zero = Lanes::splat(0.0);
        let mut fits = [Fit { m: zero, rstd: zero, shift: zero, a: zero, b: zero }; N];
        let mut stray = false;
        for i in 0..N {
            let mut spread_sums = [[0.0; MAX_LANES]; 4];
            for k in 0..4 {
                spread_sums[k] = spread(sums[i][k]);
            }
            let (m, at) = (spread(m[i]), vector::<R>(at, i));
            let mut saved_rstd = [0.0; MAX_LANES];
            if !rstd.is_null() {
                // SAFETY: the rstd has a value for each position.
                saved_rstd = spread(unsafe { saved::<R, T, WHOLE>(rstd.add(n * self.inner), at) });
            }
            let mut lanes = [[0.0; MAX_LANES]; 4];
            for l in 0..Lanes::<R>::LANES {
                let [d, dd, h, hd] = &spread_sums;
                let saved = if rstd.is_null() { None } else { Some(saved_rstd[l]) };
                let parts = Parts::new(&norm, m[l], saved, [d[l], dd[l], h[l], hd[l]]);
                (lanes[0][l], lanes[1][l]) = (parts.rstd, parts.shift);
                (lanes[2][l], lanes[3][l]) = (parts.a, parts.b);
                stray |= parts.stray;
            }
            let [rstd, shift, a, b] = &lanes;
            fits[i] = Fit {
                m: gathered(&m),
                rstd: gathered(rstd),
                shift: gathered(shift),
                a: gathered(a),
                b: gathered(b),
            };
        }
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
        let Arguments { x, dy, gamma, cols, .. } = self.arguments;
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
}

impl<T: Stored, const CENTER: bool> Vectors for Backward<T, CENTER> {
    #[inline(always)]
    fn vectors<R: Register, const N: usize, const WHOLE: bool>(&self, n: usize, at: At) -> bool {
        let Arguments { x, dy, dx, dsum, gamma, cols, .. } = self.arguments;
        let Some(fits) = self.fit::<R, N, WHOLE>(n, at) else { return false };
        let (x, dy) = (channels(x, n, self.inner), channels(dy, n, self.inner));
        let [dx, dsum] = [dx.rows(), dsum].map(|rows| Some(channels(rows?, n, self.inner)));
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
                    let mut v = (dy * gamma).mul_sub(fit.rstd, along);
                    if let Some(dsum) = dsum {
                        v = v + dsum.load::<R, WHOLE>(c, at);
                    }
                    dx.store::<R, WHOLE, false>(c, at, v);
                }
                sum = sum + dy;
                product = dy.mul_add(x_hat, product);
            }
            if WHOLE {
                let [product, sum, ..] = Lanes::sums([product, sum, zero, zero]);
                self.sums.add_at(c, &[product, sum]);
            } else {
                let (product, sum) = (product.keep(T::mask(at.n)), sum.keep(T::mask(at.n)));
                let [product, sum, ..] = Lanes::sums([product, sum, zero, zero]);
                self.sums.add_exactly(c, [product, sum]);
            }
        }
        true
    }

    fn single(&self, n: usize, s: usize) {
        let (arguments, inner) = (&self.arguments, self.inner);
        let Arguments { dy, x, dx, dsum, cols, .. } = *arguments;
        let lines = (line(dy, n, inner, s, cols), line(x, n, inner, s, cols));
        let dx = [dx.rows(), dsum].map(|rows| Some(line(rows?, n, inner, s, cols)));
        // The slots of channels stand in their order.
        let mut add = |c: usize, product: f32, sum: f32| self.sums.add_exactly(c, [product, sum]);
        // SAFETY: gamma has a value a channel.
        unsafe { exact::backward_line::<T, CENTER>(arguments, lines.0, lines.1, dx, &mut add) };
    }
}

/// Reads a value for each position `at`, in the order of the lanes.
///
/// # Safety
/// `p` is valid for reads of them.
#[inline(always)]
unsafe fn saved<R: Register, T: Stored, const WHOLE: bool>(p: *const f32, at: At) -> Lanes<R> {
    // SAFETY: the caller's promise.
    let v = unsafe { if WHOLE { f32::load(p.add(at.c)) } else { f32::load_part(p.add(at.c), at.n) } }.quiet();
    if T::SPLIT { v.unzip() } else { v }
}
