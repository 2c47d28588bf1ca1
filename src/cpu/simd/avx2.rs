//! AVX2 with FMA and F16C: eight lanes.

use core::arch::x86_64::*;
use core::ops::{Add, Div, Mul, Neg, Sub};

use half::{bf16, f16};

use super::{Kernel, Lanes, Simd};

/// Proof that the CPU has AVX2, FMA and F16C: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// Eight lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2F32(__m256);

impl Avx2 {
    /// The token, if the CPU and the operating system have what it stands for.
    pub(crate) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn inner<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl Avx2F32 {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: values of this type are made only where detection found AVX2, and so below.
        Self(unsafe { _mm256_set1_ps(v) })
    }

    #[inline(always)]
    fn bits(self) -> __m256i {
        // SAFETY: this value exists only where detection found AVX2.
        unsafe { _mm256_castps_si256(self.0) }
    }

    #[inline(always)]
    fn from_bits(bits: __m256i) -> Self {
        // SAFETY: an integer vector comes from a method of this level, which runs where detection found AVX2.
        Self(unsafe { _mm256_castsi256_ps(bits) })
    }

    #[inline(always)]
    fn and(self, mask: u32) -> Self {
        // SAFETY: this value exists only where detection found AVX2.
        Self(unsafe { _mm256_and_ps(self.0, _mm256_set1_ps(f32::from_bits(mask))) })
    }
}

/// Writes eight 16-bit values.
///
/// # Safety
/// `p` is valid for writes of 16 bytes, aligned to 16 if `stream`, and the CPU has AVX2.
#[inline(always)]
unsafe fn store_halves(p: *mut __m128i, v: __m128i, stream: bool) {
    // SAFETY: the caller's promise.
    unsafe { if stream { _mm_stream_si128(p, v) } else { _mm_storeu_si128(p, v) } }
}

/// The bits of the bf16 nearest to `v`, no NaN, in the lower half of each lane.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn round_to_bf16(v: Avx2F32) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(v.bits()), _mm256_set1_epi32(1));
        let carry = _mm256_add_epi32(v.bits(), _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        _mm256_srli_epi32::<16>(carry)
    }
}

/// A pair with a NaN in it, which is rare: out of the way of the others.
///
/// # Safety
/// As [`Simd::store_bf16_pair`], and the CPU has AVX2, FMA and F16C.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn store_nan_pair(simd: Avx2, p: *mut bf16, v: [Avx2F32; 2], stream: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        simd.store_bf16(p, v[0], stream);
        simd.store_bf16(p.add(8), v[1], stream);
    }
}

impl Simd for Avx2 {
    type F = Avx2F32;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const FUSED: bool = true;
    const ENTRIES: usize = 8;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token exists only where detection found the features of `inner`.
        unsafe { self.inner(kernel) }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> Self::F {
        Avx2F32::splat(v)
    }

    #[inline(always)]
    fn lookup<const E: usize>(self, table: &[f32; E], index: Self::F) -> Self::F {
        const { assert!(E == 8 || E == 16) }
        // SAFETY: the token proves AVX2; the loads stay inside the table's 8 or 16 entries.
        Avx2F32(unsafe {
            // `vpermps` looks at the low three bits of each index alone.
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), index.bits());
            if E == 8 {
                return Avx2F32(low);
            }
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(8)), index.bits());
            // The fourth bit, moved to the sign, chooses the half.
            _mm256_blendv_ps(low, high, index.shift_left(28).0)
        })
    }

    #[inline(always)]
    fn mul_add_exact(self, alpha: Self::F, x: Self::F, shift: Self::F) -> Self::F {
        alpha.mul_add(x, shift)
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> Self::F {
        // SAFETY: the token proves AVX; the caller's promise.
        Avx2F32(unsafe { _mm256_loadu_ps(p) })
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Self::F {
        // SAFETY: the token proves F16C; the caller's promise.
        Avx2F32(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) })
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F {
        // SAFETY: the token proves AVX2; the caller's promise.
        let halves = unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())) };
        // SAFETY: the token proves AVX2.
        Avx2F32::from_bits(unsafe { _mm256_slli_epi32::<16>(halves) })
    }

    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32, v: Self::F, stream: bool) {
        // SAFETY: the token proves AVX; the caller's promise, with the alignment where `stream`.
        unsafe { if stream { _mm256_stream_ps(p, v.0) } else { _mm256_storeu_ps(p, v.0) } }
    }

    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16, v: Self::F, stream: bool) {
        // SAFETY: the token proves F16C; the caller's promise, with the alignment where `stream`.
        unsafe { store_halves(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v.0), stream) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F, stream: bool) {
        let bits = v.bits();
        // SAFETY: the token proves AVX2; the caller's promise, with the alignment where `stream`.
        unsafe {
            let upper = _mm256_srli_epi32::<16>(bits);
            let odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
            let carry = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let rounded = _mm256_srli_epi32::<16>(carry);
            let quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v.0, v.0));
            let words = _mm256_blendv_epi8(rounded, quiet, nan);
            let halves =
                _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            store_halves(p.cast(), halves, stream);
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_pair(self, p: *mut bf16, v: [Self::F; 2], stream: bool) {
        // SAFETY: the token proves AVX2; the caller's promise, with the alignment where `stream`.
        unsafe {
            if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(v[0].0, v[1].0)) != 0 {
                return store_nan_pair(self, p, v, stream);
            }
            // `vpackusdw` packs within halves, so that the middle quarters have to change places.
            let packed = _mm256_packus_epi32(round_to_bf16(v[0]), round_to_bf16(v[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            if stream {
                store_halves(p.cast(), _mm256_castsi256_si128(words), true);
                store_halves(p.add(8).cast(), _mm256_extracti128_si256::<1>(words), true);
            } else {
                _mm256_storeu_si256(p.cast(), words);
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
        impl $trait for Avx2F32 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: this value exists only where detection found AVX.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    };
}
operator!(Add, add, _mm256_add_ps);
operator!(Sub, sub, _mm256_sub_ps);
operator!(Mul, mul, _mm256_mul_ps);
operator!(Div, div, _mm256_div_ps);

impl Neg for Avx2F32 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: this value exists only where detection found AVX.
        Self(unsafe { _mm256_xor_ps(self.0, _mm256_set1_ps(-0.0)) })
    }
}

impl Lanes for Avx2F32 {
    /// The sign bit of each lane counts.
    type Mask = __m256;

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: this value exists only where detection found FMA.
        Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: this value exists only where detection found AVX2, and with it AVX.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.and(0x7fff_ffff)
    }

    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        // SAFETY: this value exists only where detection found AVX.
        Self(unsafe { _mm256_or_ps(self.0, sign.and(0x8000_0000).0) })
    }

    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        // `vminps` returns its second operand where one is a NaN.
        // SAFETY: this value exists only where detection found AVX.
        Self(unsafe { _mm256_min_ps(limit.0, self.0) })
    }

    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        // SAFETY: this value exists only where detection found AVX.
        Self(unsafe { _mm256_max_ps(limit.0, self.0) })
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        // SAFETY: this value exists only where detection found AVX.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        // SAFETY: `a` exists only where detection found AVX.
        Self(unsafe { _mm256_blendv_ps(b.0, a.0, mask) })
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        // SAFETY: a mask comes from a method of this level, which runs where detection found AVX.
        unsafe { _mm256_movemask_ps(mask) != 0 }
    }

    #[inline(always)]
    fn shift_left(self, n: u8) -> Self {
        // SAFETY: this value exists only where detection found AVX2.
        Self::from_bits(unsafe { _mm256_sll_epi32(self.bits(), _mm_cvtsi32_si128(i32::from(n))) })
    }

    #[inline(always)]
    fn shift_right(self, n: u8) -> Self {
        // SAFETY: this value exists only where detection found AVX2.
        Self::from_bits(unsafe { _mm256_srl_epi32(self.bits(), _mm_cvtsi32_si128(i32::from(n))) })
    }

    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        // SAFETY: this value exists only where detection found AVX2.
        Self::from_bits(unsafe { _mm256_add_epi32(self.bits(), other.bits()) })
    }

    #[inline(always)]
    fn truncate_12(self) -> Self {
        self.and(0xffff_f000)
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: this value exists only where detection found AVX.
        unsafe {
            let quarter = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
}
