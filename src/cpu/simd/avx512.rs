//! AVX-512 (F, BW, DQ, VL): sixteen lanes.

use core::arch::x86_64::*;
use core::ops::{Add, Div, Mul, Neg, Sub};

use half::{bf16, f16};

use super::{Kernel, Lanes, Simd};

/// Proof that the CPU has AVX-512 F, BW, DQ and VL: only [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

/// Sixteen lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512F32(__m512);

/// Truth table of `vpternlogd`: a | (b & c).
const A_OR_B_AND_C: i32 = 0b1111_1000;

impl Avx512 {
    /// The token, if the CPU and the operating system have what it stands for.
    pub(crate) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    fn inner<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl Avx512F32 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: values of this type are made only where detection found AVX-512, and so below.
        Self(unsafe { _mm512_set1_ps(v) })
    }

    #[inline(always)]
    fn bits(self) -> __m512i {
        // SAFETY: this value exists only where detection found AVX-512.
        unsafe { _mm512_castps_si512(self.0) }
    }

    #[inline(always)]
    fn from_bits(bits: __m512i) -> Self {
        // SAFETY: an integer vector comes from a method of this level, which runs where detection found AVX-512.
        Self(unsafe { _mm512_castsi512_ps(bits) })
    }

    #[inline(always)]
    fn and(self, mask: i32) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self::from_bits(unsafe { _mm512_and_si512(self.bits(), _mm512_set1_epi32(mask)) })
    }
}

/// Writes sixteen 16-bit values.
///
/// # Safety
/// `p` is valid for writes of 32 bytes, aligned to 32 if `stream`, and the CPU has AVX-512.
#[inline(always)]
unsafe fn store_halves(p: *mut __m256i, v: __m256i, stream: bool) {
    // SAFETY: the caller's promise.
    unsafe { if stream { _mm256_stream_si256(p, v) } else { _mm256_storeu_si256(p, v) } }
}

/// The bits of `v`, no NaN, with bf16's in the upper half of each lane, rounded to nearest even.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn round_to_bf16(v: Avx512F32) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let odd = _mm512_test_epi32_mask(v.bits(), _mm512_set1_epi32(1 << 16));
        let half = _mm512_mask_blend_epi32(odd, _mm512_set1_epi32(0x7fff), _mm512_set1_epi32(0x8000));
        _mm512_add_epi32(v.bits(), half)
    }
}

/// The indices of the upper halves of the lanes of two vectors.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn odd_words() -> __m512i {
    const WORDS: [u16; 32] = {
        let mut words = [0; 32];
        let mut i = 0;
        while i < 32 {
            words[i] = 2 * i as u16 + 1;
            i += 1;
        }
        words
    };
    // SAFETY: the caller's promise; the table is a vector long.
    unsafe { _mm512_loadu_si512(WORDS.as_ptr().cast()) }
}

/// A pair with a NaN in it, which is rare: out of the way of the others.
///
/// # Safety
/// As [`Simd::store_bf16_pair`], and the CPU has AVX-512.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn store_nan_pair(simd: Avx512, p: *mut bf16, v: [Avx512F32; 2], stream: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        simd.store_bf16(p, v[0], stream);
        simd.store_bf16(p.add(16), v[1], stream);
    }
}

impl Simd for Avx512 {
    type F = Avx512F32;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const FUSED: bool = true;
    const ENTRIES: usize = 16;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token exists only where detection found the features of `inner`.
        unsafe { self.inner(kernel) }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        Avx512F32::splat(v)
    }

    #[inline(always)]
    fn lookup<const E: usize>(self, table: &[f32; E], index: Self::F) -> Self::F {
        const { assert!(E == 8 || E == 16) }
        // SAFETY: the token proves AVX-512; the load is of the table's 8 or 16 entries.
        Avx512F32(unsafe {
            let entries = if E == 16 {
                _mm512_loadu_ps(table.as_ptr())
            } else {
                // Twice the 8 entries, because `vpermps` looks at the low four bits of each index.
                _mm512_broadcast_f32x8(_mm256_loadu_ps(table.as_ptr()))
            };
            _mm512_permutexvar_ps(index.bits(), entries)
        })
    }

    #[inline(always)]
    fn mul_add_exact(self, alpha: Self::F, x: Self::F, shift: Self::F) -> Self::F {
        alpha.mul_add(x, shift)
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F {
        // SAFETY: the token proves AVX-512; the caller's promise.
        Avx512F32(unsafe { _mm512_loadu_ps(p) })
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::F {
        // SAFETY: the token proves AVX-512; the caller's promise.
        Avx512F32(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F {
        // SAFETY: the token proves AVX-512; the caller's promise.
        let halves = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())) };
        // SAFETY: the token proves AVX-512.
        Avx512F32::from_bits(unsafe { _mm512_slli_epi32::<16>(halves) })
    }

    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32, v: Self::F, stream: bool) {
        // SAFETY: the token proves AVX-512; the caller's promise, with the alignment where `stream`.
        unsafe { if stream { _mm512_stream_ps(p, v.0) } else { _mm512_storeu_ps(p, v.0) } }
    }

    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::F, stream: bool) {
        // SAFETY: the token proves AVX-512; the caller's promise, with the alignment where `stream`.
        unsafe { store_halves(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0), stream) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F, stream: bool) {
        let bits = v.bits();
        // SAFETY: the token proves AVX-512; the caller's promise, with the alignment where `stream`.
        unsafe {
            // In integers, because VCVTNEPS2BF16 flushes subnormals.
            let upper = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
            let carry = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v.0, v.0);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
            let words = _mm512_srli_epi32::<16>(_mm512_mask_mov_epi32(carry, nan, quiet));
            store_halves(p.cast(), _mm512_cvtepi32_epi16(words), stream);
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_pair(self, p: *mut bf16, v: [Self::F; 2], stream: bool) {
        // SAFETY: the token proves AVX-512; the caller's promise, with the alignment where `stream`.
        unsafe {
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v[0].0, v[1].0) != 0 {
                return store_nan_pair(self, p, v, stream);
            }
            let words = _mm512_permutex2var_epi16(round_to_bf16(v[0]), odd_words(), round_to_bf16(v[1]));
            if stream {
                store_halves(p.cast(), _mm512_castsi512_si256(words), true);
                store_halves(p.add(16).cast(), _mm512_extracti64x4_epi64::<1>(words), true);
            } else {
                _mm512_storeu_si512(p.cast(), words);
            }
        }
    }

    #[inline(always)]
    fn fence(self) {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: SSE is part of x86-64, and a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $intrinsic:ident) => {
        impl $trait for Avx512F32 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: this value exists only where detection found AVX-512.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    };
}
operator!(Add, add, _mm512_add_ps);
operator!(Sub, sub, _mm512_sub_ps);
operator!(Mul, mul, _mm512_mul_ps);
operator!(Div, div, _mm512_div_ps);

impl Neg for Avx512F32 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: this value exists only where detection found AVX-512 DQ.
        Self(unsafe { _mm512_xor_ps(self.0, _mm512_set1_ps(-0.0)) })
    }
}

impl Lanes for Avx512F32 {
    /// One bit a lane.
    type Mask = __mmask16;

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.and(0x7fff_ffff)
    }

    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self::from_bits(unsafe {
            let sign_bit = _mm512_set1_epi32(i32::MIN);
            _mm512_ternarylogic_epi32::<A_OR_B_AND_C>(self.bits(), sign_bit, sign.bits())
        })
    }

    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        // `vminps` returns its second operand where one is a NaN.
        // SAFETY: this value exists only where detection found AVX-512.
        Self(unsafe { _mm512_min_ps(limit.0, self.0) })
    }

    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self(unsafe { _mm512_max_ps(limit.0, self.0) })
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        // SAFETY: this value exists only where detection found AVX-512.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        // SAFETY: `a` exists only where detection found AVX-512.
        Self(unsafe { _mm512_mask_blend_ps(mask, b.0, a.0) })
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask != 0
    }

    #[inline(always)]
    fn shift_left(self, n: u8) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self::from_bits(unsafe { _mm512_sll_epi32(self.bits(), _mm_cvtsi32_si128(i32::from(n))) })
    }

    #[inline(always)]
    fn shift_right(self, n: u8) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self::from_bits(unsafe { _mm512_srl_epi32(self.bits(), _mm_cvtsi32_si128(i32::from(n))) })
    }

    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        // SAFETY: this value exists only where detection found AVX-512.
        Self::from_bits(unsafe { _mm512_add_epi32(self.bits(), other.bits()) })
    }

    #[inline(always)]
    fn truncate_12(self) -> Self {
        self.and(0xffff_f000_u32.cast_signed())
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: this value exists only where detection found AVX-512 DQ, and with it AVX.
        unsafe {
            let half = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
}
