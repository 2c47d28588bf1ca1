//! The sums along a row that dx is made of.

use crate::cpu::choices::STEPS;
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, Register};
use crate::cpu::param::{Sources, Values, with_values};
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stored::Stored;
use crate::cpu::sum::Compensated;

/// Adds Σd, Σd², Σh and Σh·d of some columns of `N` rows to `totals`, with d = x − m; without `CENTER` Σx² and Σh·x alone.
pub(super) struct Projections<'a, T, const N: usize, const CENTER: bool> {
    pub(super) x: Rows<T>,
    pub(super) dy: Rows<T>,
    pub(super) m: [f32; N],
    pub(super) params: Sources<T, 1>,
    pub(super) columns: Columns,
    pub(super) totals: &'a mut [[Compensated<f32>; 4]],
}

impl<T: Stored, const N: usize, const CENTER: bool> Kernel for Projections<'_, T, N, CENTER> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(mut self) {
        with_values!(self.params, |values| self.with::<R, _>(values));
    }
}

impl<T: Stored, const N: usize, const CENTER: bool> Projections<'_, T, N, CENTER> {
    #[inline(always)]
    fn with<R: Register, P: Stored>(&mut self, values: Values<P, 1>) {
        let mut m = [Lanes::splat(0.0); N];
        for r in 0..N {
            m[r] = Lanes::splat(self.m[r]);
        }
        let Columns { mut begin, end, .. } = self.columns;
        let first = begin;
        while begin < end {
            let part = Columns::plain(begin, end.min(begin + STEPS * Lanes::<R>::LANES));
            let mut sums = [[Lanes::<R>::splat(0.0); 4]; N];
            for at in part.whole::<R>() {
                let at = At { slot: at.slot + begin - first, ..at };
                self.add::<R, P, true>(&m, at, &values, &mut sums);
            }
            for at in part.ragged::<R>() {
                let at = At { slot: at.slot + begin - first, ..at };
                self.add::<R, P, false>(&m, at, &values, &mut sums);
            }
            for r in 0..N {
                let sums = Lanes::sums(sums[r]);
                for k in 0..4 {
                    self.totals[r][k].add(sums[k]);
                }
            }
            begin = part.end;
        }
    }

    #[inline(always)]
    fn add<R: Register, P: Stored, const WHOLE: bool>(
        &self,
        m: &[Lanes<R>; N],
        at: At,
        values: &Values<P, 1>,
        sums: &mut [[Lanes<R>; 4]; N],
    ) {
        let gamma = values.load::<R, WHOLE>(0, at);
        for r in 0..N {
            let mut d = self.x.load::<R, WHOLE>(r, at);
            let mut h = self.dy.load::<R, WHOLE>(r, at) * gamma;
            if CENTER {
                d = d - m[r];
            }
            if !WHOLE {
                (d, h) = (d.keep(T::mask(at.n)), h.keep(T::mask(at.n)));
            }
            let [sum, squares, sum_h, sum_hd] = &mut sums[r];
            if CENTER {
                *sum = *sum + d;
                *sum_h = *sum_h + h;
            }
            *squares = d.mul_add(d, *squares);
            *sum_hd = h.mul_add(d, *sum_hd);
        }
    }
}
