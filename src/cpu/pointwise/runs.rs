//! DyT and Derf on channels-first data: each channel of a row is a run of elements with one gamma and one beta.

use super::forward::Write;
use super::{Backward, Forward};
use crate::cpu::choices::STEPS;
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::math::Curve;
use crate::cpu::plan::{Range, Tile};
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stage::{Output, Stage};
use crate::cpu::stored::Stored;
use crate::cpu::sum::Compensated;
use crate::cpu::sums::Sums;
use crate::cpu::tensor::Tensor;

/// The run of channel `c` of row `row`.
#[inline(always)]
fn run<T: Stored>(tensor: Tensor<T>, row: usize, c: usize, inner: usize) -> Tensor<T> {
    tensor.run(row, c * inner, inner)
}

/// The forward of some channels of some rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardTile<T, C> {
    pub(super) arguments: Forward<T, C>,
    pub(super) tile: Tile,
}

impl<T: Stored, C: Curve> Kernel for ForwardTile<T, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self { arguments, tile } = self;
        let Forward { x, residual, y, gamma, beta, alpha, shift, inner, stream, .. } = arguments;
        let curve = C::new::<R, T>(alpha, shift);
        let mut stage = Stage::new();
        for row in tile.rows.begin..tile.rows.end {
            for c in tile.cols.begin..tile.cols.end {
                // SAFETY: parameters have a value a channel.
                let (gamma, beta) = unsafe { (gamma.value(c), beta.value(c)) };
                let (gamma, beta) = (Lanes::splat(gamma), Lanes::splat(beta));
                let (x, y) = (run(x, row, c, inner), run(y, row, c, inner));
                let output = Output::new(y, true, stream);
                let residual = residual.map(|residual| residual.run(row, c * inner, inner));
                // A short run gains nothing from a boundary.
                let mut begin = 0;
                while begin < inner {
                    let mut columns = output.block::<R>(begin, inner, 0, x.apart(y));
                    let mut x = x.from(0);
                    if let Some(residual) = &residual {
                        columns = residual.columns(columns);
                        x = residual.block::<R>(Range { begin: 0, end: 1 }, columns, 0, &mut stage);
                    }
                    let target = output.target(0, columns, &mut stage);
                    let write = Write { x, y: target, curve: &curve, ahead: 0 };
                    for at in columns.whole::<R>() {
                        write.block::<R, 1, true, false>(0, at, gamma, beta);
                    }
                    for at in columns.ragged::<R>() {
                        if columns.overlap {
                            write.block::<R, 1, true, false>(0, at, gamma, beta);
                        } else {
                            write.block::<R, 1, false, false>(0, at, gamma, beta);
                        }
                    }
                    output.finish::<R>(0, 0, columns, target);
                    begin = columns.end;
                }
            }
        }
        if stream || residual.is_some_and(|residual| residual.is_in_memory()) {
            R::fence();
        }
    }
}

/// The backward of some channels of a chunk of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardTile<T, C> {
    pub(super) arguments: Backward<T, C>,
    pub(super) tile: Tile,
    /// The sums of this chunk, in the order of the channels.
    pub(super) sums: Sums,
}

impl<T: Stored, C: Curve> Kernel for BackwardTile<T, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self { arguments, tile, sums } = self;
        let Backward { dy, x, dx, dsum, gamma, alpha, shift, inner, .. } = arguments;
        let curve = C::new::<R, f32>(alpha, shift);
        sums.clear_columns(tile.cols);
        for row in tile.rows.begin..tile.rows.end {
            for c in tile.cols.begin..tile.cols.end {
                // SAFETY: gamma has a value a channel.
                let factor = alpha * unsafe { gamma.value(c) };
                let [dx, dsum] = [dx.rows(), dsum].map(|tensor| Some(run(tensor?, row, c, inner).from(0)));
                let (x, dy) = (run(x, row, c, inner).from(0), run(dy, row, c, inner).from(0));
                let factor = Lanes::splat(factor);
                let run = Run::<R, T, C> { x, dy, dx, dsum, factor, curve: &curve };
                sums.add_at(c, &run.sums(inner));
            }
        }
    }
}

/// One run.
struct Run<'a, R, T, C> {
    x: Rows<T>,
    dy: Rows<T>,
    dx: Option<Rows<T>>,
    dsum: Option<Rows<T>>,
    /// alpha·gamma.
    factor: Lanes<R>,
    curve: &'a C,
}

impl<R: Register, T: Stored, C: Curve> Run<'_, R, T, C> {
    /// Writes dx and returns the sums of dy·f, dy, dy·f′·x and dy·f′, in an order that follows from the length alone.
    #[inline(always)]
    fn sums(&self, inner: usize) -> [f32; 4] {
        let mut totals = [Compensated::ZERO; 4];
        let mut begin = 0;
        while begin < inner {
            let columns = Columns::plain(begin, inner.min(begin + STEPS * Lanes::<R>::LANES));
            let mut sums = [Lanes::splat(0.0); 4];
            for at in columns.whole::<R>() {
                self.add::<true>(at, &mut sums);
            }
            for at in columns.ragged::<R>() {
                self.add::<false>(at, &mut sums);
            }
            for (total, sum) in totals.iter_mut().zip(Lanes::sums(sums)) {
                total.add(sum);
            }
            begin = columns.end;
        }
        totals.map(Compensated::total)
    }

    #[inline(always)]
    fn add<const WHOLE: bool>(&self, at: At, sums: &mut [Lanes<R>; 4]) {
        let x = self.x.load::<R, WHOLE>(0, at);
        let mut dy = self.dy.load::<R, WHOLE>(0, at);
        let (f, slope) = self.curve.value_and_slope(x);
        if let Some(dx) = self.dx {
            let mut v = (dy * self.factor) * slope;
            if let Some(dsum) = self.dsum {
                v = v + dsum.load::<R, WHOLE>(0, at);
            }
            dx.store::<R, WHOLE, false>(0, at, v);
        }
        if !WHOLE {
            dy = dy.keep(T::mask(at.n));
        }
        let h = dy * slope;
        sums[0] = dy.mul_add(f, sums[0]);
        sums[1] = sums[1] + dy;
        sums[2] = h.mul_add(x, sums[2]);
        sums[3] = sums[3] + h;
    }
}
