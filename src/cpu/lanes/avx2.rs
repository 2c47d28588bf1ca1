//! AVX2 with FMA and F16C: eight lanes a register.

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::{Arithmetic, Kernel, LEAST_POWER, LINE, Lanes, MAX_ENTRIES, ROUND, Register};

/// Proof that the CPU has AVX2, FMA and F16C: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// A register; it exists only where detection found AVX2, FMA and F16C, which makes the intrinsics below sound.
pub(crate) type F32x8 = __m256;

impl Avx2 {
    /// The token, if the CPU and the operating system have what it stands for.
    pub(crate) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        present.then_some(Self(()))
    }

    /// Runs `kernel` on this level.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token exists only where detection found the level.
        unsafe { F32x8::run(kernel) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<F32x8>() }
}

/// All lanes with these bits.
#[inline(always)]
fn bits(bits: u32) -> __m256 {
    // SAFETY: see `F32x8`.
    unsafe { _mm256_set1_ps(f32::from_bits(bits)) }
}

const SIGN: u32 = 1 << 31;

/// The bits of `v`, whose lower halves are 0 in a NaN, with bf16's in the upper half of each lane.
#[inline(always)]
fn round_to_bf16(v: __m256) -> __m256i {
    // SAFETY: see `F32x8`.
    unsafe {
        let v = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(v), _mm256_set1_epi32(1));
        _mm256_add_epi32(v, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)))
    }
}

/// Two registers rounded to bf16, by turns.
#[inline(always)]
fn pack_bf16(even: __m256, odd: __m256) -> __m256i {
    // SAFETY: see `F32x8`.
    unsafe {
        let even = _mm256_srli_epi32::<16>(round_to_bf16(even));
        _mm256_blend_epi16::<0xaa>(even, round_to_bf16(odd))
    }
}

/// The values from `p` on in the lanes of `mask`, `other` in the others.
///
/// # Safety
/// The values in the lanes of `mask` are valid for reads.
#[inline(always)]
unsafe fn load_masked(p: *const f32, mask: __m256i, other: __m256) -> __m256 {
    // SAFETY: the caller's promise; what the mask leaves out is not touched.
    unsafe { _mm256_blendv_ps(other, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask)) }
}

impl Arithmetic for F32x8 {
    const ENTRIES: usize = 8;

    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: see `F32x8`, as in all methods here.
        unsafe { _mm256_set1_ps(v) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(self, b) }
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_sub_ps(self, b) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_mul_ps(self, b) }
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_div_ps(self, b) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_sqrt_ps(self) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(self, a, b) }
    }
    #[inline(always)]
    fn mul_sub(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fmsub_ps(self, a, b) }
    }
    #[inline(always)]
    fn mul_add_exact(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_and_ps(self, bits(!SIGN)) }
    }
    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        // `vminps` returns its second operand where one is a NaN.
        // SAFETY: as above.
        unsafe { _mm256_min_ps(limit, self) }
    }
    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_max_ps(limit, self) }
    }
    #[inline(always)]
    fn times_sign(self, s: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_xor_ps(self, _mm256_and_ps(s, bits(SIGN))) }
    }
    #[inline(always)]
    fn if_less(self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(self, b)) }
    }
    #[inline(always)]
    fn quiet(self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_blendv_ps(self, _mm256_set1_ps(f32::NAN), _mm256_cmp_ps::<_CMP_UNORD_Q>(self, self)) }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; MAX_ENTRIES]) -> Self {
        // `vpermps` looks at the low three bits of each index alone.
        // SAFETY: as above; the load is of the table's first eight entries.
        unsafe {
            let index = _mm256_srli_epi32::<22>(_mm256_castps_si256(self));
            _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), index)
        }
    }
    #[inline(always)]
    fn exp2_parts(self) -> (Self, Self) {
        let w = self.at_least(Self::splat(LEAST_POWER));
        let key = w.add(Self::splat(ROUND));
        let f = w.sub(key.sub(Self::splat(ROUND)));
        // SAFETY: as above.
        (unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(key))) }, f)
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        Self::splat(1.0).div(self)
    }
}

impl Register for F32x8 {
    const LANES: usize = 8;
    const ROWS: usize = 2;

    // `inline(never)` has no effect on functions with target features, and a kernel is to stay a function of its own.
    #[inline(never)]
    unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { enter(kernel) }
    }
    #[inline(always)]
    fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        // SAFETY: as above; the store is of the four sums.
        unsafe {
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
            let (low, high) = (_mm256_unpacklo_pd(ab, cd), _mm256_unpackhi_pd(ab, cd));
            let halves = _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
            let sum = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            _mm_storeu_ps(sums.as_mut_ptr(), sum);
        }
        sums
    }
    #[inline(always)]
    fn unzip(low: Self, high: Self) -> (Self, Self) {
        // SAFETY: as above.
        unsafe {
            // Shuffles stay within halves, so that the middle quarters have to change places.
            let (even, odd) = (_mm256_shuffle_ps::<0x88>(low, high), _mm256_shuffle_ps::<0xdd>(low, high));
            let (even, odd) = (_mm256_castps_pd(even), _mm256_castps_pd(odd));
            let (even, odd) = (_mm256_permute4x64_pd::<0xd8>(even), _mm256_permute4x64_pd::<0xd8>(odd));
            (_mm256_castpd_ps(even), _mm256_castpd_ps(odd))
        }
    }
    #[inline(always)]
    fn zip(even: Self, odd: Self) -> (Self, Self) {
        // SAFETY: as above.
        unsafe {
            let (a, b) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
            (_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
        }
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> (Self, Self) {
        // SAFETY: the caller's promise.
        unsafe {
            let words = _mm256_loadu_si256(p.cast());
            let odd = _mm256_and_ps(_mm256_castsi256_ps(words), bits(0xffff_0000));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), odd)
        }
    }
    #[inline(always)]
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Lanes<Self> {
        // SAFETY: the caller's promise; what the masks leave out is not touched.
        unsafe {
            let first = _mm256_set1_ps(*p);
            let (n, lane) = (_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
            let low = load_masked(p, _mm256_cmpgt_epi32(n, lane), first);
            let lane = _mm256_add_epi32(lane, _mm256_set1_epi32(8));
            Lanes(low, load_masked(p.wrapping_add(8), _mm256_cmpgt_epi32(n, lane), first))
        }
    }
    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(p, self) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, even: Self, odd: Self) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), pack_bf16(even, odd)) }
    }
    const STREAMS: bool = true;
    #[inline(always)]
    unsafe fn stream_f32(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_stream_ps(p, self) }
    }
    #[inline(always)]
    unsafe fn stream_f16(self, p: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { _mm_stream_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self)) }
    }
    #[inline(always)]
    unsafe fn stream_bf16(p: *mut bf16, even: Self, odd: Self) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_stream_si256(p.cast(), pack_bf16(even, odd)) }
    }
    #[inline(always)]
    unsafe fn stream_line(from: *const u8, to: *mut u8) {
        for at in [0, LINE / 2] {
            // SAFETY: the caller's promise.
            unsafe {
                _mm256_stream_si256(to.add(at).cast(), _mm256_loadu_si256(from.add(at).cast()));
            }
        }
    }
    #[inline(always)]
    fn fence() {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: SSE is part of x86-64, and a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
