//! v of a quantised y: f32, for a portion of x in f32.

use core::marker::PhantomData;

use super::forward::Write;
use super::{exact, scalar};
use crate::Problem;
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::level::Isa;
use crate::cpu::math::Curve;
use crate::cpu::param::{Param, Sources};
use crate::cpu::plan::Range;
use crate::cpu::quant::{self, Portion};
use crate::cpu::stored::Stored;
use crate::ops::ForwardPtrs;

/// DyT or Derf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<C> {
    gamma: Param,
    beta: Param,
    alpha: f32,
    shift: f32,
    curve: PhantomData<C>,
}

impl<C: Curve> Values<C> {
    pub(crate) fn new(problem: &Problem, arguments: &ForwardPtrs) -> Self {
        let &ForwardPtrs { gamma, beta, alpha, shift, .. } = arguments;
        Self {
            gamma: Param::gamma(gamma, problem),
            beta: Param::beta(beta, problem),
            alpha: scalar(alpha),
            shift: scalar(shift),
            curve: PhantomData,
        }
    }

    /// v of a portion whose alpha is not usual. `channel` is whether rows are channels.
    fn exact(&self, portion: &Portion, channel: bool) {
        let Portion { x, v, rows, columns, .. } = *portion;
        for r in 0..rows.len() {
            for c in columns.begin..columns.end {
                let column = if channel { rows.begin + r } else { c };
                // SAFETY: parameters have a value for it.
                let (gamma, beta) = unsafe { (self.gamma.value(column), self.beta.value(column)) };
                let f = exact::tanh(f64::from(self.alpha) * f64::from(x.value(r, c))).0;
                v.put(r, c, (f * f64::from(gamma) + f64::from(beta)) as f32);
            }
        }
    }
}

impl<T: Stored, C: Curve> quant::Values<T> for Values<C> {
    type Kept = ();

    fn take_group(&mut self, group: usize, cols: usize) {
        [self.gamma, self.beta] = [self.gamma, self.beta].map(|param| param.further(group * cols));
    }
    fn look(&self, _: Isa, _: Range, (): &mut ()) {}
    fn look_first(&self, _: Isa, _: usize, _: Range, (): &mut ()) {}

    fn write(&self, isa: Isa, (): &(), _: usize, portion: &Portion) -> bool {
        let usual = C::is_usual(self.alpha);
        if usual {
            isa.run(Rows(*self, *portion));
        } else {
            self.exact(portion, false);
        }
        usual
    }

    fn write_first(&self, isa: Isa, (): &(), _: usize, portion: &Portion) {
        if C::is_usual(self.alpha) {
            isa.run(Channels(*self, *portion));
        } else {
            self.exact(portion, true);
        }
    }
}

struct Rows<C>(Values<C>, Portion);

impl<C: Curve> Kernel for Rows<C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self(Values { gamma, beta, alpha, shift, .. }, Portion { x, v, rows, columns, tiles, fresh }) =
            self;
        let curve = C::new::<R, f32>(alpha, shift);
        // SAFETY: parameters have a value a column.
        let params =
            unsafe { Sources::<f32, 2>::new::<R>([gamma, beta], tiles, columns, rows.len(), false, fresh) };
        let write = Write { x, y: v, curve: &curve, ahead: 0 };
        write.rows::<R, _, false>(rows.len(), columns, params.of_f32());
    }
}

struct Channels<C>(Values<C>, Portion);

impl<C: Curve> Kernel for Channels<C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        let Self(Values { gamma, beta, alpha, shift, .. }, Portion { x, v, rows, columns, .. }) = self;
        let curve = C::new::<R, f32>(alpha, shift);
        let write = Write { x, y: v, curve: &curve, ahead: 0 };
        for row in 0..rows.len() {
            // SAFETY: parameters have a value a channel.
            let (gamma, beta) = unsafe { (gamma.value(rows.begin + row), beta.value(rows.begin + row)) };
            let (gamma, beta) = (Lanes::splat(gamma), Lanes::splat(beta));
            for at in columns.whole::<R>() {
                write.block::<R, 1, true, false>(row, at, gamma, beta);
            }
            for at in columns.ragged::<R>() {
                write.block::<R, 1, false, false>(row, at, gamma, beta);
            }
        }
    }
}
