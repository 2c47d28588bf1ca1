//! Registers as integers of 32 bits a lane: what the conversion to types of one byte needs.

use wide::{f32x4, u32x4};

/// Arithmetic on the bits of each lane. No floating-point flag is raised.
pub(crate) trait Bits: Copy {
    /// The bits plus `n`, which wraps around.
    fn bits_plus(self, n: u32) -> Self;
    /// The bits plus those of `b`.
    fn bits_add(self, b: Self) -> Self;
    /// The bits that `mask` has too.
    fn bits_and(self, mask: u32) -> Self;
    /// The bits of both.
    fn bits_or(self, b: Self) -> Self;
    /// The bits moved right by `N`, with zeros from the left.
    fn bits_right<const N: u32>(self) -> Self;
    /// Writes the lowest byte of each lane of `low`, then of `high`.
    ///
    /// # Safety
    /// `p` is valid for writes of as many bytes as both have lanes.
    unsafe fn store_bytes(low: Self, high: Self, p: *mut u8);
}

impl Bits for f32x4 {
    #[inline(always)]
    fn bits_plus(self, n: u32) -> Self {
        bytemuck::cast(bytemuck::cast::<_, u32x4>(self) + u32x4::splat(n))
    }
    #[inline(always)]
    fn bits_add(self, b: Self) -> Self {
        bytemuck::cast(bytemuck::cast::<_, u32x4>(self) + bytemuck::cast::<_, u32x4>(b))
    }
    #[inline(always)]
    fn bits_and(self, mask: u32) -> Self {
        bytemuck::cast(bytemuck::cast::<_, u32x4>(self) & u32x4::splat(mask))
    }
    #[inline(always)]
    fn bits_or(self, b: Self) -> Self {
        bytemuck::cast(bytemuck::cast::<_, u32x4>(self) | bytemuck::cast::<_, u32x4>(b))
    }
    #[inline(always)]
    fn bits_right<const N: u32>(self) -> Self {
        bytemuck::cast(bytemuck::cast::<_, u32x4>(self) >> N)
    }
    #[inline(always)]
    unsafe fn store_bytes(low: Self, high: Self, p: *mut u8) {
        let bytes = [low, high].map(|v| bytemuck::cast::<_, [u32; 4]>(v).map(|lane| lane as u8));
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[[u8; 4]; 2]>().write(bytes) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::Bits;

    /// Registers exist where detection found the level, which makes the intrinsics sound: see [`super::super`].
    macro_rules! bits {
        ($to:ident, $from:ident, $set:ident, $add:ident, $and:ident, $or:ident, $right:ident) => {
            #[inline(always)]
            fn bits_plus(self, n: u32) -> Self {
                // SAFETY: as above.
                unsafe { $from($add($to(self), $set(n.cast_signed()))) }
            }
            #[inline(always)]
            fn bits_add(self, b: Self) -> Self {
                // SAFETY: as above.
                unsafe { $from($add($to(self), $to(b))) }
            }
            #[inline(always)]
            fn bits_and(self, mask: u32) -> Self {
                // SAFETY: as above.
                unsafe { $from($and($to(self), $set(mask.cast_signed()))) }
            }
            #[inline(always)]
            fn bits_or(self, b: Self) -> Self {
                // SAFETY: as above.
                unsafe { $from($or($to(self), $to(b))) }
            }
            #[inline(always)]
            fn bits_right<const N: u32>(self) -> Self {
                // SAFETY: as above.
                unsafe { $from($right($to(self), _mm_cvtsi32_si128(N.cast_signed()))) }
            }
        };
    }

    impl Bits for __m256 {
        bits!(
            _mm256_castps_si256,
            _mm256_castsi256_ps,
            _mm256_set1_epi32,
            _mm256_add_epi32,
            _mm256_and_si256,
            _mm256_or_si256,
            _mm256_srl_epi32
        );
        #[inline(always)]
        unsafe fn store_bytes(low: Self, high: Self, p: *mut u8) {
            // SAFETY: as above; the caller's promise.
            unsafe {
                // Packing saturates, so that what is above the byte goes first.
                let [low, high] = [low, high].map(|v| _mm256_castps_si256(v.bits_and(0xff)));
                let words = _mm256_packus_epi32(low, high);
                let bytes = _mm256_packus_epi16(words, words);
                // Each half has four bytes of `low`, then four of `high`.
                let order = _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0);
                let bytes = _mm256_permutevar8x32_epi32(bytes, order);
                _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(bytes));
            }
        }
    }

    impl Bits for __m512 {
        bits!(
            _mm512_castps_si512,
            _mm512_castsi512_ps,
            _mm512_set1_epi32,
            _mm512_add_epi32,
            _mm512_and_si512,
            _mm512_or_si512,
            _mm512_srl_epi32
        );
        #[inline(always)]
        unsafe fn store_bytes(low: Self, high: Self, p: *mut u8) {
            // SAFETY: as above; the caller's promise.
            unsafe {
                _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(low)));
                _mm_storeu_si128(p.add(16).cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(high)));
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Bits for core::arch::aarch64::float32x4_t {
    #[inline(always)]
    fn bits_plus(self, n: u32) -> Self {
        use core::arch::aarch64::*;
        // SAFETY: registers exist where detection found the level: see [`super`].
        unsafe { vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(self), vdupq_n_u32(n))) }
    }
    #[inline(always)]
    fn bits_add(self, b: Self) -> Self {
        use core::arch::aarch64::*;
        // SAFETY: as above.
        unsafe { vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(self), vreinterpretq_u32_f32(b))) }
    }
    #[inline(always)]
    fn bits_and(self, mask: u32) -> Self {
        use core::arch::aarch64::*;
        // SAFETY: as above.
        unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(self), vdupq_n_u32(mask))) }
    }
    #[inline(always)]
    fn bits_or(self, b: Self) -> Self {
        use core::arch::aarch64::*;
        // SAFETY: as above.
        unsafe { vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(self), vreinterpretq_u32_f32(b))) }
    }
    #[inline(always)]
    fn bits_right<const N: u32>(self) -> Self {
        use core::arch::aarch64::*;
        // A shift to the left by a negative number.
        // SAFETY: as above.
        unsafe {
            let by = vdupq_n_s32(-N.cast_signed());
            vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(self), by))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(low: Self, high: Self, p: *mut u8) {
        use core::arch::aarch64::*;
        // SAFETY: as above; the caller's promise.
        unsafe {
            let low = vmovn_u32(vreinterpretq_u32_f32(low));
            let high = vmovn_u32(vreinterpretq_u32_f32(high));
            vst1_u8(p, vmovn_u16(vcombine_u16(low, high)));
        }
    }
}
