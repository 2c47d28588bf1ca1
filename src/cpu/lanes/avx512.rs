//! AVX-512 (F, BW, DQ, VL): sixteen lanes a register.

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::{Arithmetic, Kernel, Lanes, MAX_ENTRIES, Register, UP};

/// Proof that the CPU has AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C: only [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

/// A register; it exists only where detection found AVX-512, which makes the intrinsics below sound.
pub(crate) type F32x16 = __m512;

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

    /// Runs `kernel` on this level.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token exists only where detection found the level.
        unsafe { F32x16::run(kernel) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<F32x16>() }
}

/// Truth table of `vpternlogd`: a ^ (b & c).
const A_XOR_B_AND_C: i32 = 0b0111_1000;

/// The bits of `v`, whose lower halves are 0 in a NaN, with bf16's in the upper half of each lane. `vcvtneps2bf16` flushes
/// subnormals.
#[inline(always)]
fn round_to_bf16(v: __m512) -> __m512i {
    // SAFETY: see `F32x16`.
    unsafe {
        let v = _mm512_castps_si512(v);
        let odd = _mm512_test_epi32_mask(v, _mm512_set1_epi32(1 << 16));
        let half = _mm512_mask_blend_epi32(odd, _mm512_set1_epi32(0x7fff), _mm512_set1_epi32(0x8000));
        _mm512_add_epi32(v, half)
    }
}

/// Two registers rounded to bf16, by turns.
#[inline(always)]
fn pack_bf16(even: __m512, odd: __m512) -> __m512i {
    // SAFETY: see `F32x16`.
    unsafe {
        let even = _mm512_srli_epi32::<16>(round_to_bf16(even));
        _mm512_mask_blend_epi16(0xaaaa_aaaa, even, round_to_bf16(odd))
    }
}

/// Every second number from `first` on.
const fn every_second(first: i32) -> [i32; 16] {
    let mut numbers = [first; 16];
    let mut i = 0;
    while i < 16 {
        numbers[i] += 2 * i as i32;
        i += 1;
    }
    numbers
}

/// `first`, 16 more, `first` + 1, 16 more, and so on.
const fn by_turns(first: i32) -> [i32; 16] {
    let mut numbers = [first; 16];
    let mut i = 0;
    while i < 16 {
        numbers[i] += (i / 2 + i % 2 * 16) as i32;
        i += 1;
    }
    numbers
}

static EVEN: [i32; 16] = every_second(0);
static ODD: [i32; 16] = every_second(1);
static LOW: [i32; 16] = by_turns(0);
static HIGH: [i32; 16] = by_turns(8);

/// The lanes of two registers, `low` first, that `index` names.
#[inline(always)]
fn choose(low: __m512, index: &[i32; 16], high: __m512) -> __m512 {
    // SAFETY: see `F32x16`; the load is of the sixteen numbers.
    unsafe { _mm512_permutex2var_ps(low, _mm512_loadu_si512(index.as_ptr().cast()), high) }
}

/// A mask of the first `n` bytes; `n` of 64 and more is all.
#[inline(always)]
const fn first_bytes(n: usize) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// A mask of the first `n` of 32 words.
#[inline(always)]
const fn first_words(n: usize) -> u32 {
    (1 << n) - 1
}

/// The first `n` words, fewer than 32; the others repeat the first one.
///
/// # Safety
/// `p` is valid for reads of `n` words, at least one.
#[inline(always)]
unsafe fn load_words(p: *const i16, n: usize) -> __m512i {
    // SAFETY: the caller's promise; what the mask leaves out is not touched.
    unsafe { _mm512_mask_loadu_epi16(_mm512_set1_epi16(p.read_unaligned()), first_words(n), p) }
}

/// The even elements of bf16, then the odd ones.
#[inline(always)]
fn split_bf16(words: __m512i) -> (__m512, __m512) {
    // SAFETY: see `F32x16`.
    unsafe {
        let odd = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
        (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd))
    }
}

impl Arithmetic for F32x16 {
    const ENTRIES: usize = 32;

    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: see `F32x16`, as in all methods here.
        unsafe { _mm512_set1_ps(v) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(self, b) }
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_sub_ps(self, b) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(self, b) }
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_div_ps(self, b) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_sqrt_ps(self) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(self, a, b) }
    }
    #[inline(always)]
    fn mul_sub(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fmsub_ps(self, a, b) }
    }
    #[inline(always)]
    fn mul_add_exact(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_abs_ps(self) }
    }
    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        // `vminps` returns its second operand where one is a NaN.
        // SAFETY: as above.
        unsafe { _mm512_min_ps(limit, self) }
    }
    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_max_ps(limit, self) }
    }
    #[inline(always)]
    fn times_sign(self, s: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let (v, sign) = (_mm512_castps_si512(self), _mm512_set1_epi32(i32::MIN));
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<A_XOR_B_AND_C>(v, sign, _mm512_castps_si512(s)))
        }
    }
    #[inline(always)]
    fn if_less(self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, b), y, x) }
    }
    #[inline(always)]
    fn quiet(self) -> Self {
        // SAFETY: as above.
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self, self);
            _mm512_mask_blend_ps(nan, self, _mm512_set1_ps(f32::NAN))
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; MAX_ENTRIES]) -> Self {
        // `vpermi2ps` looks at the low five bits of each index alone.
        // SAFETY: as above; the loads are of the table's entries.
        unsafe {
            let index = _mm512_srli_epi32::<20>(_mm512_castps_si512(self));
            let (low, high) = (_mm512_loadu_ps(table.as_ptr()), _mm512_loadu_ps(table.as_ptr().add(16)));
            _mm512_permutex2var_ps(low, index, high)
        }
    }
    #[inline(always)]
    fn exp2_parts(self) -> (Self, Self) {
        // SAFETY: as above.
        unsafe {
            let f = _mm512_reduce_ps::<0>(self);
            (_mm512_scalef_ps(_mm512_set1_ps(UP), _mm512_sub_ps(self, f)), f)
        }
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        // SAFETY: as above.
        unsafe {
            let r = _mm512_rcp14_ps(self);
            _mm512_fmadd_ps(r, _mm512_fnmadd_ps(self, r, _mm512_set1_ps(1.0)), r)
        }
    }
}

impl Register for F32x16 {
    const LANES: usize = 16;
    const ROWS: usize = 4;

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
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
            let quarters = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
            let halves =
                _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters));
            let sum = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            _mm_storeu_ps(sums.as_mut_ptr(), sum);
        }
        sums
    }
    #[inline(always)]
    fn unzip(low: Self, high: Self) -> (Self, Self) {
        (choose(low, &EVEN, high), choose(low, &ODD, high))
    }
    #[inline(always)]
    fn zip(even: Self, odd: Self) -> (Self, Self) {
        (choose(even, &LOW, odd), choose(even, &HIGH, odd))
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> (Self, Self) {
        // SAFETY: the caller's promise.
        unsafe { split_bf16(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Lanes<Self> {
        // SAFETY: the caller's promise; what the mask leaves out is not touched.
        unsafe {
            let (first, mask) = (_mm512_set1_ps(*p), first_words(n));
            let upper = p.wrapping_add(Self::LANES);
            let low = _mm512_mask_loadu_ps(first, mask as u16, p);
            Lanes(low, _mm512_mask_loadu_ps(first, (mask >> 16) as u16, upper))
        }
    }
    #[inline(always)]
    unsafe fn load_f16_part(p: *const f16, n: usize) -> Lanes<Self> {
        // SAFETY: as above.
        unsafe {
            let words = load_words(p.cast(), n);
            let (low, high) = (_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words));
            Lanes(_mm512_cvtph_ps(low), _mm512_cvtph_ps(high))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_part(p: *const bf16, n: usize) -> Lanes<Self> {
        // SAFETY: as above.
        let (even, odd) = split_bf16(unsafe { load_words(p.cast(), n) });
        Lanes(even, odd)
    }
    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(p, self) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, even: Self, odd: Self) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(p.cast(), pack_bf16(even, odd)) }
    }
    const STREAMS: bool = true;
    #[inline(always)]
    unsafe fn stream_f32(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_stream_ps(p, self) }
    }
    #[inline(always)]
    unsafe fn stream_f16(self, p: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_stream_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self)) }
    }
    #[inline(always)]
    unsafe fn stream_bf16(p: *mut bf16, even: Self, odd: Self) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_stream_si512(p.cast(), pack_bf16(even, odd)) }
    }
    #[inline(always)]
    unsafe fn copy_few(from: *const u8, to: *mut u8, n: usize) {
        // SAFETY: the caller's promise; what the mask leaves out is not touched.
        unsafe {
            let part = _mm512_maskz_loadu_epi8(first_bytes(n), from.cast());
            _mm512_mask_storeu_epi8(to.cast(), first_bytes(n), part);
            if n > 64 {
                let mask = first_bytes(n - 64);
                let part = _mm512_maskz_loadu_epi8(mask, from.add(64).cast());
                _mm512_mask_storeu_epi8(to.add(64).cast(), mask, part);
            }
        }
    }
    #[inline(always)]
    unsafe fn stream_line(from: *const u8, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_stream_si512(to.cast(), _mm512_loadu_si512(from.cast())) }
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
