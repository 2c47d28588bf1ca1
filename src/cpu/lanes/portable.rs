//! The portable level: four lanes of `wide` a register, compiled to the instructions that every CPU of the target has.

use half::{bf16, f16};
use wide::{f32x4, u32x4};

use super::half_bits::{f16_to_f32, f32_to_f16};
use super::{Arithmetic, Kernel, LEAST_POWER, LINE, ROUND, Register};

/// The level that runs everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Portable {
    /// Runs `kernel` on this level.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the level runs everywhere.
        unsafe { f32x4::run(kernel) }
    }
}

#[inline(always)]
fn bits(v: f32x4) -> u32x4 {
    bytemuck::cast(v)
}

#[inline(always)]
fn from_bits(bits: u32x4) -> f32x4 {
    bytemuck::cast(bits)
}

#[inline(always)]
fn sign(v: f32x4) -> u32x4 {
    bits(v) & u32x4::splat(1 << 31)
}

/// a·b + c rounded once, without a fused multiply-add.
///
/// The product is exact in f64. The sum is rounded to odd there, which keeps enough of what was cut off for the
/// second rounding to be that of the exact value.
#[inline(always)]
fn mul_add_once(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let virtual_c = sum - product;
    let error = (product - (sum - virtual_c)) + (c - virtual_c);
    // False for a NaN, which infinities leave in `error`.
    let inexact = (error > 0.0) | (error < 0.0);
    let towards = if (error > 0.0) == (sum > 0.0) { 1_i64 } else { -1 };
    let even = sum.to_bits() & 1 == 0;
    let step = towards & -i64::from(inexact & even);
    f64::from_bits(sum.to_bits().wrapping_add_signed(step)) as f32
}

/// The bits of `v`, whose lower halves are 0 in a NaN, with bf16's in the upper half of each lane.
#[inline(always)]
fn round_to_bf16(v: f32x4) -> u32x4 {
    let v = bits(v);
    v + (((v >> 16_u32) & u32x4::splat(1)) + u32x4::splat(0x7fff))
}

impl Arithmetic for f32x4 {
    const ENTRIES: usize = 0;

    #[inline(always)]
    fn splat(v: f32) -> Self {
        Self::splat(v)
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self + b
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self - b
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self * b
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self / b
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // Not `wide`'s, so that the bits do not depend on the features the crate is compiled with.
        self * a + b
    }
    #[inline(always)]
    fn mul_sub(self, a: Self, b: Self) -> Self {
        self * a - b
    }
    #[inline(always)]
    fn mul_add_exact(self, a: Self, b: Self) -> Self {
        let (x, a, b) = (self.to_array(), a.to_array(), b.to_array());
        Self::from(core::array::from_fn(|i| mul_add_once(x[i], a[i], b[i])))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        from_bits(bits(self) & u32x4::splat(u32::MAX >> 1))
    }
    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        if cfg!(target_arch = "x86_64") {
            // `minps` returns its second operand where one is a NaN.
            return limit.fast_min(self);
        }
        self.simd_gt(limit).bitselect(limit, self)
    }
    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        if cfg!(target_arch = "x86_64") {
            return limit.fast_max(self);
        }
        self.simd_lt(limit).bitselect(limit, self)
    }
    #[inline(always)]
    fn times_sign(self, s: Self) -> Self {
        from_bits(bits(self) ^ sign(s))
    }
    #[inline(always)]
    fn if_less(self, b: Self, x: Self, y: Self) -> Self {
        self.simd_lt(b).bitselect(x, y)
    }
    #[inline(always)]
    fn quiet(self) -> Self {
        self.simd_eq(self).bitselect(self, Self::splat(f32::NAN))
    }
    #[inline(always)]
    fn exp2_parts(self) -> (Self, Self) {
        let w = self.at_least(Self::splat(LEAST_POWER));
        let key = w + Self::splat(ROUND);
        (from_bits(bits(key) << 23_u32), w - (key - Self::splat(ROUND)))
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        Self::splat(1.0) / self
    }
}

impl Register for f32x4 {
    const LANES: usize = 4;
    const ROWS: usize = 1;

    #[inline(never)]
    unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the level runs everywhere.
        unsafe { kernel.run::<Self>() }
    }
    #[inline(always)]
    fn sums(of: [Self; 4]) -> [f32; 4] {
        let [a, b, c, d] = Self::transpose(of);
        ((a + b) + (c + d)).to_array()
    }
    #[inline(always)]
    fn unzip(low: Self, high: Self) -> (Self, Self) {
        let ([a, b, c, d], [e, f, g, h]) = (low.to_array(), high.to_array());
        (Self::from([a, c, e, g]), Self::from([b, d, f, h]))
    }
    #[inline(always)]
    fn zip(even: Self, odd: Self) -> (Self, Self) {
        (even.unpack_lo(odd), even.unpack_hi(odd))
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self::from(unsafe { p.cast::<[f32; 4]>().read() })
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller's promise; an f16 is a u16 in memory.
        Self::from(unsafe { p.cast::<[u16; 4]>().read() }.map(f16_to_f32))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> (Self, Self) {
        // SAFETY: the caller's promise; two bf16 are a u32 in memory, which the read does not need aligned.
        let pairs = u32x4::from(unsafe { p.cast::<[u32; 4]>().read_unaligned() });
        let (low, high) = (from_bits(pairs << 16_u32), from_bits(pairs & u32x4::splat(0xffff_0000)));
        if cfg!(target_endian = "big") { (high, low) } else { (low, high) }
    }
    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().write(self.to_array()) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        // SAFETY: the caller's promise; an f16 is a u16 in memory.
        unsafe { p.cast::<[u16; 4]>().write(self.to_array().map(f32_to_f16)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, even: Self, odd: Self) {
        let (low, high) = if cfg!(target_endian = "big") { (odd, even) } else { (even, odd) };
        let (low, high) = (round_to_bf16(low) >> 16_u32, round_to_bf16(high) & u32x4::splat(0xffff_0000));
        // SAFETY: the caller's promise; two bf16 are a u32 in memory, which the write does not need aligned.
        unsafe { p.cast::<[u32; 4]>().write_unaligned((low | high).to_array()) }
    }
    const STREAMS: bool = false;
    #[inline(always)]
    unsafe fn stream_f32(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.store_f32(p) }
    }
    #[inline(always)]
    unsafe fn stream_f16(self, p: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { self.store_f16(p) }
    }
    #[inline(always)]
    unsafe fn stream_bf16(p: *mut bf16, even: Self, odd: Self) {
        // SAFETY: the caller's promise.
        unsafe { Self::store_bf16(p, even, odd) }
    }
    #[inline(always)]
    unsafe fn stream_line(from: *const u8, to: *mut u8) {
        #[cfg(target_arch = "x86_64")]
        for at in (0..LINE).step_by(16) {
            // SAFETY: SSE2 is part of x86-64; the caller's promise.
            unsafe {
                let part = core::arch::x86_64::_mm_loadu_si128(from.add(at).cast());
                core::arch::x86_64::_mm_stream_si128(to.add(at).cast(), part);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: the caller's promise.
        unsafe {
            to.cast::<[u8; LINE]>().write(from.cast::<[u8; LINE]>().read());
        }
    }
    #[inline(always)]
    fn fence() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of x86-64.
        unsafe {
            core::arch::x86_64::_mm_sfence();
        }
    }
    #[inline(always)]
    fn prefetch(p: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of x86-64, and a prefetch of any address is harmless.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }
}
