//! Polynomials from register tables: the upper bits of a + shift choose a piece, and each coefficient is one lookup.

use core::hint::black_box;

use super::tables::Table;
use crate::cpu::lanes::{Arithmetic, Lanes, MAX_ENTRIES, Register};

/// The most rows of a table.
const ROWS: usize = 9;

/// How often the end of the last piece is moved: once is enough but for the rounding of what is moved.
const STEPS_TO_ONE: usize = 4;

/// A function of a = scale·x, x ≥ 0, in pieces, ready for lookups. The scale joins the first multiplication of each form, so
/// that it costs no instruction.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Pieces {
    rows: [[f32; MAX_ENTRIES]; ROWS],
    shift: f32,
    /// The greatest x that counts.
    limit: f32,
    scale: f32,
}

impl Pieces {
    /// Of no function.
    pub(super) const NONE: Self =
        Self { rows: [[0.0; MAX_ENTRIES]; ROWS], shift: 0.0, limit: 0.0, scale: 0.0 };

    #[inline(always)]
    fn scaled<const E: usize, const K: usize>(table: &Table<E, K>, scale: f32) -> Self {
        // Opaque, so that no division by 0 is made and thrown away: it would raise a flag.
        let limit = if scale > 0.0 { table.limit / black_box(scale) } else { f32::INFINITY };
        let mut pieces = Self { shift: table.shift, limit, scale, ..Self::NONE };
        for (to, from) in pieces.rows.iter_mut().zip(&table.rows) {
            to[..E].copy_from_slice(from);
        }
        pieces
    }

    /// The same, negated if `negative`.
    #[inline(always)]
    pub(super) fn negated<R: Register>(mut self, negative: bool, centred: bool) -> Self {
        if negative {
            // Row 0 of the one form has centres.
            for row in &mut self.rows[usize::from(centred)..] {
                for c in &mut row[..R::ENTRIES] {
                    *c = -*c;
                }
            }
        }
        self
    }

    /// With polynomials about the centres that row 0 has.
    #[inline(always)]
    pub(super) fn centred<R: Register, const E: usize, const K: usize>(
        table: &Table<E, K>,
        scale: f32,
    ) -> Self {
        let mut pieces = Self::scaled(table, scale);
        pieces.end_at_one::<R, E, K>(true);
        pieces
    }

    /// With polynomials in a itself, whose coefficients take the powers of the scale.
    #[inline(always)]
    pub(super) fn plain<R: Register, const E: usize, const K: usize>(
        table: &Table<E, K>,
        scale: f32,
    ) -> Self {
        let mut pieces = Self::scaled(table, scale);
        let mut power = 1.0;
        for row in &mut pieces.rows[..K] {
            for c in &mut row[..E] {
                *c *= power;
            }
            power *= scale;
        }
        pieces.end_at_one::<R, E, K>(false);
        pieces
    }

    /// Moves the lowest coefficient of the last piece by some units in the last place, so that the function is exactly 1 from
    /// the limit on whatever the scale.
    #[inline(always)]
    fn end_at_one<R: Register, const E: usize, const K: usize>(&mut self, centred: bool) {
        if self.scale == 0.0 {
            return;
        }
        let piece = (self.limit.mul_add(self.scale, self.shift).to_bits() >> (25 - E.ilog2())) as usize % E;
        for _ in 0..STEPS_TO_ONE {
            let limit = Lanes::<R>::splat(self.limit);
            let end = if centred { self.about_centre::<R, K, false>(limit) } else { self.of::<R, K>(limit) };
            let [end, ..] = Lanes::sums([end; 4]);
            let off = 1.0 - end / Lanes::<R>::LANES as f32;
            if off == 0.0 {
                return;
            }
            self.rows[usize::from(centred)][piece] += off;
        }
    }

    /// x up to the limit, and what chooses the piece. A NaN passes.
    #[inline(always)]
    fn choose<V: Arithmetic>(&self, x: Lanes<V>) -> (Lanes<V>, Lanes<V>) {
        let x = x.at_most(Lanes::splat(self.limit));
        (x, x.mul_add(Lanes::splat(self.scale), Lanes::splat(self.shift)))
    }

    /// The function of x, by [`Self::centred`] of a table with `K` rows. With `PLUS` the first piece lacks a itself, which
    /// joins in place of its lowest coefficient, 0.
    #[inline(always)]
    pub(super) fn about_centre<V: Arithmetic, const K: usize, const PLUS: bool>(
        &self,
        x: Lanes<V>,
    ) -> Lanes<V> {
        let (x, piece) = self.choose(x);
        let s = x.mul_sub(Lanes::splat(self.scale), piece.lookup(&self.rows[0]));
        let y = if K == 9 { self.by_pairs(piece, s) } else { self.horner::<V, K>(piece, s, 2) };
        let lowest = piece.lookup(&self.rows[1]);
        y.mul_add(s, if PLUS { s.at_least(lowest) } else { lowest })
    }

    /// The function of x, by [`Self::plain`] of a table with `K` rows.
    #[inline(always)]
    pub(super) fn of<V: Arithmetic, const K: usize>(&self, x: Lanes<V>) -> Lanes<V> {
        let (x, piece) = self.choose(x);
        self.horner::<V, K>(piece, x, 0)
    }

    /// The polynomial with the coefficients of the rows from `first` to `K`.
    #[inline(always)]
    fn horner<V: Arithmetic, const K: usize>(&self, piece: Lanes<V>, x: Lanes<V>, first: usize) -> Lanes<V> {
        let mut y = piece.lookup(&self.rows[K - 1]);
        for k in (first..K - 1).rev() {
            y = y.mul_add(x, piece.lookup(&self.rows[k]));
        }
        y
    }

    /// The polynomial of degree 6 with the coefficients of the rows from 2 to 9,
    /// c₀ + x((c₁ + c₂x) + x²((c₃ + c₄x) + x²(c₅ + c₆x))): a shorter chain of dependent instructions, and as exact, since
    /// the lowest terms still join last.
    #[inline(always)]
    fn by_pairs<V: Arithmetic>(&self, piece: Lanes<V>, x: Lanes<V>) -> Lanes<V> {
        let row = |k: usize| piece.lookup(&self.rows[2 + k]);
        let square = x * x;
        let mut y = row(6).mul_add(x, row(5));
        y = y.mul_add(square, row(4).mul_add(x, row(3)));
        y = y.mul_add(square, row(2).mul_add(x, row(1)));
        y.mul_add(x, row(0))
    }
}
