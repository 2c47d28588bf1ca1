//! The types of elements: how a vector of each is loaded and stored. Kernels differ by them nowhere else.

use half::{bf16, f16};

use super::lanes::half_bits::{bf16_to_f32, f16_to_f32};
use super::lanes::{Lanes, MAX_LANES, Register};
use super::tile::TILE;
use crate::Element;

/// As many ones as the widest vector has lanes, then as many zeros.
type Window<T> = [T; 2 * MAX_LANES];

/// A type of elements.
pub(crate) trait Stored: Element {
    /// Whether the lanes of a vector are its even elements, then its odd ones.
    const SPLIT: bool;
    /// Whether rounding to this type leaves fewer than 24 bits.
    const NARROW: bool;
    /// Ones, then zeros.
    const WINDOW: &'static Window<Self>;
    /// 1 for each column of a block.
    const ONES: &'static [Self; TILE];
    /// −0 for each column of a block.
    const MINUS_ZEROS: &'static [Self; TILE];
    /// The value as f32.
    fn widen(self) -> f32;
    /// The value rounded once, to nearest even.
    fn narrow(v: f32) -> Self;
    /// Loads a vector.
    ///
    /// # Safety
    /// `p` is valid for reads of [`Lanes::LANES`] values.
    unsafe fn load<R: Register>(p: *const Self) -> Lanes<R>;
    /// Loads the first `n` values; the other lanes repeat the first one.
    ///
    /// # Safety
    /// `p` is valid for reads of `n` values, at least one and fewer than [`Lanes::LANES`].
    unsafe fn load_part<R: Register>(p: *const Self, n: usize) -> Lanes<R>;
    /// Rounds a vector and stores it; a NaN for bf16 has zeros in its lower 16 bits.
    ///
    /// # Safety
    /// `p` is valid for writes of [`Lanes::LANES`] values.
    unsafe fn store<R: Register>(p: *mut Self, v: Lanes<R>);

    /// As [`Self::store`], past the cache.
    ///
    /// # Safety
    /// As [`Self::store`], and `p` is aligned to a register, or to half of one for f16; the level streams vectors.
    unsafe fn stream<R: Register>(p: *mut Self, v: Lanes<R>);

    /// 1 in the lanes of the first `n` elements, 0 in the others.
    #[inline(always)]
    fn mask<R: Register>(n: usize) -> Lanes<R> {
        // SAFETY: a vector's worth of values from there on lies in the window, since `n` is at most a vector's lanes.
        unsafe { Self::load(Self::WINDOW.as_ptr().add(MAX_LANES - n)) }
    }
}

const fn window<T: Copy>(one: T, zero: T) -> Window<T> {
    let mut window = [zero; 2 * MAX_LANES];
    let mut i = 0;
    while i < MAX_LANES {
        window[i] = one;
        i += 1;
    }
    window
}

impl Stored for f32 {
    const SPLIT: bool = false;
    const WINDOW: &'static Window<Self> = &window(1.0, 0.0);
    const NARROW: bool = false;
    const ONES: &'static [Self; TILE] = &[1.0; TILE];
    const MINUS_ZEROS: &'static [Self; TILE] = &[-0.0; TILE];
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(v: f32) -> Self {
        v
    }
    #[inline(always)]
    unsafe fn load<R: Register>(p: *const Self) -> Lanes<R> {
        // SAFETY: the caller's promise.
        unsafe { Lanes::load(p) }
    }
    #[inline(always)]
    unsafe fn load_part<R: Register>(p: *const Self, n: usize) -> Lanes<R> {
        // SAFETY: the caller's promise.
        unsafe { R::load_f32_part(p, n) }
    }
    #[inline(always)]
    unsafe fn store<R: Register>(p: *mut Self, v: Lanes<R>) {
        // SAFETY: the caller's promise.
        unsafe { v.store(p) }
    }
    #[inline(always)]
    unsafe fn stream<R: Register>(p: *mut Self, v: Lanes<R>) {
        // SAFETY: the caller's promise.
        unsafe {
            v.0.stream_f32(p);
            v.1.stream_f32(p.add(R::LANES));
        }
    }
}

impl Stored for f16 {
    const SPLIT: bool = false;
    const WINDOW: &'static Window<Self> = &window(Self::ONE, Self::ZERO);
    const NARROW: bool = true;
    const ONES: &'static [Self; TILE] = &[Self::ONE; TILE];
    const MINUS_ZEROS: &'static [Self; TILE] = &[Self::NEG_ZERO; TILE];
    #[inline(always)]
    fn widen(self) -> f32 {
        f16_to_f32(self.to_bits())
    }
    #[inline(always)]
    fn narrow(v: f32) -> Self {
        Self::from_f32(v)
    }
    #[inline(always)]
    unsafe fn load<R: Register>(p: *const Self) -> Lanes<R> {
        // SAFETY: the caller's promise.
        unsafe { Lanes(R::load_f16(p), R::load_f16(p.add(R::LANES))) }
    }
    #[inline(always)]
    unsafe fn load_part<R: Register>(p: *const Self, n: usize) -> Lanes<R> {
        // SAFETY: the caller's promise.
        unsafe { R::load_f16_part(p, n) }
    }
    #[inline(always)]
    unsafe fn store<R: Register>(p: *mut Self, v: Lanes<R>) {
        // SAFETY: the caller's promise.
        unsafe {
            v.0.store_f16(p);
            v.1.store_f16(p.add(R::LANES));
        }
    }
    #[inline(always)]
    unsafe fn stream<R: Register>(p: *mut Self, v: Lanes<R>) {
        // SAFETY: the caller's promise.
        unsafe {
            v.0.stream_f16(p);
            v.1.stream_f16(p.add(R::LANES));
        }
    }
}

impl Stored for bf16 {
    const SPLIT: bool = true;
    const WINDOW: &'static Window<Self> = &window(Self::ONE, Self::ZERO);
    const NARROW: bool = true;
    const ONES: &'static [Self; TILE] = &[Self::ONE; TILE];
    const MINUS_ZEROS: &'static [Self; TILE] = &[Self::NEG_ZERO; TILE];
    #[inline(always)]
    fn widen(self) -> f32 {
        bf16_to_f32(self.to_bits())
    }
    #[inline(always)]
    fn narrow(v: f32) -> Self {
        Self::from_f32(v)
    }
    #[inline(always)]
    unsafe fn load<R: Register>(p: *const Self) -> Lanes<R> {
        // SAFETY: the caller's promise.
        let (even, odd) = unsafe { R::load_bf16(p) };
        Lanes(even, odd)
    }
    #[inline(always)]
    unsafe fn load_part<R: Register>(p: *const Self, n: usize) -> Lanes<R> {
        // SAFETY: the caller's promise.
        unsafe { R::load_bf16_part(p, n) }
    }
    #[inline(always)]
    unsafe fn store<R: Register>(p: *mut Self, v: Lanes<R>) {
        // SAFETY: the caller's promise.
        unsafe { R::store_bf16(p, v.0, v.1) }
    }
    #[inline(always)]
    unsafe fn stream<R: Register>(p: *mut Self, v: Lanes<R>) {
        // SAFETY: the caller's promise.
        unsafe { R::stream_bf16(p, v.0, v.1) }
    }
}
