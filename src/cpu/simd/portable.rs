//! The portable level: eight lanes of `wide`, compiled to the instructions every CPU of the target has.

use core::ops::{Add, Div, Mul, Neg, Sub};

use half::{bf16, f16};
use wide::{f32x8, u32x8};

use super::{Kernel, Lanes, Simd, half_bits};

/// The level that runs everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

/// Eight lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortableF32(f32x8);

impl PortableF32 {
    #[inline(always)]
    fn bits(self) -> u32x8 {
        bytemuck::cast(self.0)
    }

    #[inline(always)]
    fn from_bits(bits: u32x8) -> Self {
        Self(bytemuck::cast(bits))
    }

    #[inline(always)]
    fn splat(v: f32) -> Self {
        Self(f32x8::splat(v))
    }

    #[inline(always)]
    fn from_u16(halves: [u16; 8], widen: impl Fn(u16) -> f32) -> Self {
        Self(f32x8::from(halves.map(widen)))
    }
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

impl Simd for Portable {
    type F = PortableF32;
    const LANES: usize = 8;
    const REGISTERS: usize = 8;
    const FUSED: bool = false;
    const ENTRIES: usize = 0;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        PortableF32::splat(v)
    }

    #[inline(always)]
    fn lookup<const E: usize>(self, table: &[f32; E], index: Self::F) -> Self::F {
        let index = index.bits().to_array();
        PortableF32(f32x8::from(index.map(|bits| table[bits as usize & (E - 1)])))
    }

    #[inline(always)]
    fn mul_add_exact(self, alpha: Self::F, x: Self::F, shift: Self::F) -> Self::F {
        let (alpha, x, shift) = (alpha.0.to_array(), x.0.to_array(), shift.0.to_array());
        PortableF32(f32x8::from(core::array::from_fn(|i| mul_add_once(alpha[i], x[i], shift[i]))))
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F {
        // SAFETY: the caller's promise; the read needs no more alignment than a byte.
        PortableF32(f32x8::from(unsafe { p.cast::<[f32; 8]>().read_unaligned() }))
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::F {
        // SAFETY: the caller's promise; an f16 is a u16 in memory.
        PortableF32::from_u16(unsafe { p.cast::<[u16; 8]>().read_unaligned() }, half_bits::f16_to_f32)
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F {
        // SAFETY: the caller's promise; a bf16 is a u16 in memory.
        PortableF32::from_u16(unsafe { p.cast::<[u16; 8]>().read_unaligned() }, half_bits::bf16_to_f32)
    }

    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32, v: Self::F, stream: bool) {
        let v = v.0.to_array();
        // SAFETY: the caller's promise, with the alignment where `stream`.
        unsafe { store(p.cast(), bytemuck::cast::<_, [u8; 32]>(v), stream) }
    }

    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::F, stream: bool) {
        let v = v.0.to_array().map(half_bits::f32_to_f16);
        // SAFETY: the caller's promise, with the alignment where `stream`; an f16 is a u16 in memory.
        unsafe { store(p.cast(), bytemuck::cast::<_, [u8; 16]>(v), stream) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F, stream: bool) {
        let v = v.0.to_array().map(half_bits::f32_to_bf16);
        // SAFETY: the caller's promise, with the alignment where `stream`; a bf16 is a u16 in memory.
        unsafe { store(p.cast(), bytemuck::cast::<_, [u8; 16]>(v), stream) }
    }

    #[inline(always)]
    fn fence(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of x86-64.
        unsafe {
            core::arch::x86_64::_mm_sfence();
        }
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of x86-64, and a prefetch of any address is harmless.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }
}

/// Writes `BYTES` bytes, a multiple of 16, past the cache if `stream` and the target can.
///
/// # Safety
/// `p` is valid for writes of `BYTES` bytes and, if `stream`, aligned to 16.
#[inline(always)]
unsafe fn store<const BYTES: usize>(p: *mut u8, bytes: [u8; BYTES], stream: bool) {
    #[cfg(target_arch = "x86_64")]
    if stream {
        for (i, part) in bytes.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: SSE2 is part of x86-64; the part lies inside the caller's `BYTES` bytes, aligned to 16.
            unsafe {
                let part = core::arch::x86_64::_mm_loadu_si128(part.as_ptr().cast());
                core::arch::x86_64::_mm_stream_si128(p.add(16 * i).cast(), part);
            }
        }
        return;
    }
    let _ = stream;
    // SAFETY: the caller's promise; the write needs no more alignment than a byte.
    unsafe { p.cast::<[u8; BYTES]>().write_unaligned(bytes) }
}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl $trait for PortableF32 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self($trait::$method(self.0, other.0))
            }
        }
    };
}
operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Neg for PortableF32 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(self.0 ^ f32x8::splat(-0.0))
    }
}

impl Lanes for PortableF32 {
    /// All ones or all zeros in each lane.
    type Mask = f32x8;

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // Not `wide`'s, so that the bits do not depend on the features the crate is compiled with.
        self * a + b
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self::from_bits(self.bits() & u32x8::splat(0x7fff_ffff))
    }

    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        Self::from_bits(self.bits() | (sign.bits() & u32x8::splat(0x8000_0000)))
    }

    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        if cfg!(target_arch = "x86_64") {
            // `minps` returns its second operand where one is a NaN.
            return Self(limit.0.fast_min(self.0));
        }
        Self::select(self.0.simd_gt(limit.0), limit, self)
    }

    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        if cfg!(target_arch = "x86_64") {
            return Self(limit.0.fast_max(self.0));
        }
        Self::select(self.0.simd_lt(limit.0), limit, self)
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        self.0.simd_lt(other.0)
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        Self(mask.bitselect(a.0, b.0))
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask.any()
    }

    #[inline(always)]
    fn shift_left(self, n: u8) -> Self {
        Self::from_bits(self.bits() << u32::from(n))
    }

    #[inline(always)]
    fn shift_right(self, n: u8) -> Self {
        Self::from_bits(self.bits() >> u32::from(n))
    }

    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        Self::from_bits(self.bits() + other.bits())
    }

    #[inline(always)]
    fn truncate_12(self) -> Self {
        Self::from_bits(self.bits() & u32x8::splat(0xffff_f000))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0.to_array();
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}
