//! NEON: eight lanes in two registers.

use core::arch::aarch64::*;
use core::ops::{Add, Div, Mul, Neg, Sub};

use half::{bf16, f16};

use super::{Kernel, Lanes, Simd, half_bits};

/// Proof that the CPU has NEON: only [`Neon::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

/// Eight lanes: the first four, the last four.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonF32(float32x4_t, float32x4_t);

impl Neon {
    /// The token, if the CPU has what it stands for.
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    #[target_feature(enable = "neon")]
    fn inner<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl NeonF32 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: values of this type are made only where detection found NEON, and so below.
        let v = unsafe { vdupq_n_f32(v) };
        Self(v, v)
    }

    #[inline(always)]
    fn map(self, f: impl Fn(uint32x4_t) -> uint32x4_t) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe {
            Self(
                vreinterpretq_f32_u32(f(vreinterpretq_u32_f32(self.0))),
                vreinterpretq_f32_u32(f(vreinterpretq_u32_f32(self.1))),
            )
        }
    }

    #[inline(always)]
    fn to_array(self) -> [f32; 8] {
        let mut array = [0.0; 8];
        // SAFETY: this value exists only where detection found NEON; the stores fill the two halves of the array.
        unsafe {
            vst1q_f32(array.as_mut_ptr(), self.0);
            vst1q_f32(array.as_mut_ptr().add(4), self.1);
        }
        array
    }

    #[inline(always)]
    fn from_array(array: [f32; 8]) -> Self {
        // SAFETY: values are made only where detection found NEON; the loads are of the two halves of the array.
        unsafe { Self(vld1q_f32(array.as_ptr()), vld1q_f32(array.as_ptr().add(4))) }
    }
}

impl Simd for Neon {
    type F = NeonF32;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const FUSED: bool = true;
    const ENTRIES: usize = 0;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token exists only where detection found NEON.
        unsafe { self.inner(kernel) }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        NeonF32::splat(v)
    }

    #[inline(always)]
    fn lookup<const E: usize>(self, table: &[f32; E], index: Self::F) -> Self::F {
        NeonF32::from_array(index.to_array().map(|i| table[i.to_bits() as usize & (E - 1)]))
    }

    #[inline(always)]
    fn mul_add_exact(self, alpha: Self::F, x: Self::F, shift: Self::F) -> Self::F {
        alpha.mul_add(x, shift)
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F {
        // SAFETY: the token proves NEON; the caller's promise.
        unsafe { NeonF32(vld1q_f32(p), vld1q_f32(p.add(4))) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::F {
        // SAFETY: the caller's promise; an f16 is a u16 in memory.
        let halves = unsafe { p.cast::<[u16; 8]>().read_unaligned() };
        NeonF32::from_array(halves.map(half_bits::f16_to_f32))
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F {
        // SAFETY: the token proves NEON; the caller's promise; a bf16 is a u16 in memory.
        unsafe {
            let halves = vld1q_u16(p.cast());
            NeonF32(
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(halves))),
                vreinterpretq_f32_u32(vshll_high_n_u16::<16>(halves)),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32, v: Self::F, _stream: bool) {
        // SAFETY: the token proves NEON; the caller's promise.
        unsafe {
            vst1q_f32(p, v.0);
            vst1q_f32(p.add(4), v.1);
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::F, _stream: bool) {
        let halves = v.to_array().map(half_bits::f32_to_f16);
        // SAFETY: the caller's promise; an f16 is a u16 in memory.
        unsafe { p.cast::<[u16; 8]>().write_unaligned(halves) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F, _stream: bool) {
        let halves = v.to_array().map(half_bits::f32_to_bf16);
        // SAFETY: the caller's promise; a bf16 is a u16 in memory.
        unsafe { p.cast::<[u16; 8]>().write_unaligned(halves) }
    }

    #[inline(always)]
    fn fence(self) {}

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch changes no register or memory, and is harmless for any address.
        unsafe {
            core::arch::asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(nostack, preserves_flags, readonly));
        }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $intrinsic:ident) => {
        impl $trait for NeonF32 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: this value exists only where detection found NEON.
                unsafe { Self($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
            }
        }
    };
}
operator!(Add, add, vaddq_f32);
operator!(Sub, sub, vsubq_f32);
operator!(Mul, mul, vmulq_f32);
operator!(Div, div, vdivq_f32);

impl Neg for NeonF32 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe { Self(vnegq_f32(self.0), vnegq_f32(self.1)) }
    }
}

impl Lanes for NeonF32 {
    /// All ones or all zeros in each lane.
    type Mask = (uint32x4_t, uint32x4_t);

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe { Self(vfmaq_f32(b.0, self.0, a.0), vfmaq_f32(b.1, self.1, a.1)) }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe { Self(vsqrtq_f32(self.0), vsqrtq_f32(self.1)) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe { Self(vabsq_f32(self.0), vabsq_f32(self.1)) }
    }

    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe {
            let bit = vdupq_n_u32(0x8000_0000);
            Self(vbslq_f32(bit, sign.0, self.0), vbslq_f32(bit, sign.1, self.1))
        }
    }

    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        // A NaN in either operand passes.
        // SAFETY: this value exists only where detection found NEON.
        unsafe { Self(vminq_f32(self.0, limit.0), vminq_f32(self.1, limit.1)) }
    }

    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe { Self(vmaxq_f32(self.0, limit.0), vmaxq_f32(self.1, limit.1)) }
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        // SAFETY: this value exists only where detection found NEON.
        unsafe { (vcltq_f32(self.0, other.0), vcltq_f32(self.1, other.1)) }
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        // SAFETY: `a` exists only where detection found NEON.
        unsafe { Self(vbslq_f32(mask.0, a.0, b.0), vbslq_f32(mask.1, a.1, b.1)) }
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        // SAFETY: a mask comes from a method of this level, which runs where detection found NEON.
        unsafe { vmaxvq_u32(vorrq_u32(mask.0, mask.1)) != 0 }
    }

    #[inline(always)]
    fn shift_left(self, n: u8) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        self.map(|bits| unsafe { vshlq_u32(bits, vdupq_n_s32(i32::from(n))) })
    }

    #[inline(always)]
    fn shift_right(self, n: u8) -> Self {
        // A shift to the left by a negative number is one to the right.
        // SAFETY: this value exists only where detection found NEON.
        self.map(|bits| unsafe { vshlq_u32(bits, vdupq_n_s32(-i32::from(n))) })
    }

    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        unsafe {
            let bits = |v| vreinterpretq_u32_f32(v);
            Self(
                vreinterpretq_f32_u32(vaddq_u32(bits(self.0), bits(other.0))),
                vreinterpretq_f32_u32(vaddq_u32(bits(self.1), bits(other.1))),
            )
        }
    }

    #[inline(always)]
    fn truncate_12(self) -> Self {
        // SAFETY: this value exists only where detection found NEON.
        self.map(|bits| unsafe { vandq_u32(bits, vdupq_n_u32(0xffff_f000)) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: this value exists only where detection found NEON.
        unsafe {
            let quarter = vaddq_f32(self.0, self.1);
            let pair = vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter));
            vpadds_f32(pair)
        }
    }
}
