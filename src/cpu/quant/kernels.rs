//! What is the same for every op: a portion of x as f32, the largest |v|, and the quantisation. Each is compiled once for a type
//! and a level; the op's own kernel works between them, in the first-level cache.

use core::marker::PhantomData;

use super::code::{self, Code};
use crate::cpu::lanes::{Arithmetic, Kernel, Lanes, MAX_LANES, Register};
use crate::cpu::plan::Range;
use crate::cpu::residual::Residual;
use crate::cpu::rows::{At, Columns, Rows};
use crate::cpu::stored::Stored;

/// Writes sum of a call with a residual.
pub(super) struct Add<T> {
    pub(super) residual: Residual<T>,
    pub(super) rows: Range,
    pub(super) columns: Columns,
}

impl<T: Stored> Kernel for Add<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        self.residual.into_sum::<R>(self.rows, self.columns);
    }
}

/// Copies some columns of the first `n` rows as f32, which is exact.
pub(super) struct Widen<T> {
    pub(super) from: Rows<T>,
    pub(super) to: Rows<f32>,
    pub(super) n: usize,
    pub(super) columns: Columns,
}

impl<T: Stored> Kernel for Widen<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for row in 0..self.n {
            for at in self.columns.whole::<R>() {
                self.vector::<R, true>(row, at);
            }
            for at in self.columns.ragged::<R>() {
                self.vector::<R, false>(row, at);
            }
        }
    }
}

impl<T: Stored> Widen<T> {
    #[inline(always)]
    fn vector<R: Register, const WHOLE: bool>(&self, row: usize, at: At) {
        let v = self.from.load::<R, WHOLE>(row, at);
        self.to.store::<R, WHOLE, false>(row, at, if T::SPLIT { v.zip() } else { v });
    }
}

/// The largest |v| of each of the first rows and of what `into` holds for it. NaN is left out.
pub(super) struct RowMaxima<'a> {
    pub(super) v: Rows<f32>,
    pub(super) columns: Columns,
    pub(super) into: &'a mut [f32],
}

impl Kernel for RowMaxima<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for row in 0..self.into.len() {
            let mut most = Lanes::<R>::splat(self.into[row]);
            for at in self.columns.whole::<R>() {
                most = larger(most, self.v.load::<R, true>(row, at));
            }
            for at in self.columns.ragged::<R>() {
                // The lanes behind the last column repeat another.
                most = larger(most, self.v.load::<R, false>(row, at));
            }
            let mut lanes = [0.0; MAX_LANES];
            // SAFETY: there is room for the widest vector.
            unsafe { most.store(lanes.as_mut_ptr()) };
            self.into[row] = lanes.into_iter().fold(0.0, f32::max);
        }
    }
}

/// The same of each column, in the first `n` rows.
pub(super) struct ColumnMaxima {
    pub(super) v: Rows<f32>,
    pub(super) n: usize,
    pub(super) columns: Columns,
    pub(super) into: Rows<f32>,
}

impl Kernel for ColumnMaxima {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for at in self.columns.whole::<R>() {
            self.vector::<R, true>(at);
        }
        for at in self.columns.ragged::<R>() {
            self.vector::<R, false>(at);
        }
    }
}

impl ColumnMaxima {
    #[inline(always)]
    fn vector<R: Register, const WHOLE: bool>(&self, at: At) {
        let mut most = self.into.load::<R, WHOLE>(0, at);
        for row in 0..self.n {
            most = larger(most, self.v.load::<R, WHOLE>(row, at));
        }
        self.into.store::<R, WHOLE, false>(0, at, most);
    }
}

/// The larger of `most` and |v|; a comparison with NaN is false.
#[inline(always)]
fn larger<R: Register>(most: Lanes<R>, v: Lanes<R>) -> Lanes<R> {
    let size = v.abs();
    most.if_less(size, size, most)
}

/// What a portion is divided by.
#[derive(Clone, Copy)]
pub(super) enum Scales<'a> {
    /// Each row by its own.
    OfRows(&'a [f32]),
    /// Each column by its own.
    OfColumns(Rows<f32>),
}

/// Some rows of a quantised y.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    pub(super) first: *mut u8,
    pub(super) stride: usize,
}

impl Bytes {
    /// The same rows, so many elements further on.
    pub(super) const fn shifted(self, elements: usize) -> Self {
        Self { first: self.first.wrapping_add(elements), ..self }
    }

    /// # Safety
    /// The columns `at` of `row` are the caller's to write.
    #[inline(always)]
    unsafe fn store<R: Register, C: Code, const WHOLE: bool>(self, row: usize, at: At, v: Lanes<R>) {
        let p = self.first.wrapping_add(row * self.stride + at.c);
        // SAFETY: the caller's promise; the copy holds a vector.
        unsafe {
            if WHOLE {
                return code::store::<R, C>(v, p);
            }
            let mut padded = [0; MAX_LANES];
            code::store::<R, C>(v, padded.as_mut_ptr());
            let even = at.n & !1;
            R::copy_few(padded.as_ptr(), p, even);
            if even < at.n {
                *p.wrapping_add(even) = padded[even];
            }
        }
    }
}

/// Divides, rounds and writes some columns of the first `n` rows.
pub(super) struct Quantise<'a, C> {
    pub(super) v: Rows<f32>,
    pub(super) y: Bytes,
    pub(super) n: usize,
    pub(super) columns: Columns,
    pub(super) scales: Scales<'a>,
    pub(super) code: PhantomData<C>,
}

impl<C: Code> Kernel for Quantise<'_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<R: Register>(self) {
        for row in 0..self.n {
            let own = match self.scales {
                Scales::OfRows(scales) => Some(Lanes::splat(scales[row])),
                Scales::OfColumns(_) => None,
            };
            for at in self.columns.whole::<R>() {
                self.vector::<R, true>(row, at, own);
            }
            for at in self.columns.ragged::<R>() {
                self.vector::<R, false>(row, at, own);
            }
        }
    }
}

impl<C: Code> Quantise<'_, C> {
    #[inline(always)]
    fn vector<R: Register, const WHOLE: bool>(&self, row: usize, at: At, own: Option<Lanes<R>>) {
        let scale = match (own, self.scales) {
            (Some(scale), _) => scale,
            (None, Scales::OfColumns(scales)) => scales.load::<R, WHOLE>(0, at),
            (None, Scales::OfRows(_)) => return,
        };
        let v = self.v.load::<R, WHOLE>(row, at) / scale;
        // SAFETY: y is a tensor of the problem, of which tasks write disjoint parts.
        unsafe { self.y.store::<R, C, WHOLE>(row, at, v) }
    }
}
