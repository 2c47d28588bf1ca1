//! NEON: four lanes a register.

use core::arch::aarch64::*;
use core::arch::asm;

use half::{bf16, f16};

use super::{Arithmetic, Kernel, LEAST_POWER, LINE, ROUND, Register};

/// Proof that the CPU has NEON: only [`Neon::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

/// A register; it exists only where detection found NEON, which makes the intrinsics below sound.
pub(crate) type F32x4 = float32x4_t;

impl Neon {
    /// The token, if the CPU has what it stands for.
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs `kernel` on this level.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token exists only where detection found the level.
        unsafe { F32x4::run(kernel) }
    }
}

#[target_feature(enable = "neon")]
unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<F32x4>() }
}

/// The bits of `v`, whose lower halves are 0 in a NaN, with bf16's in the upper half of each lane.
#[inline(always)]
fn round_to_bf16(v: float32x4_t) -> uint16x8_t {
    // SAFETY: see `F32x4`.
    unsafe {
        let v = vreinterpretq_u32_f32(v);
        let odd = vandq_u32(vshrq_n_u32::<16>(v), vdupq_n_u32(1));
        vreinterpretq_u16_u32(vaddq_u32(v, vaddq_u32(odd, vdupq_n_u32(0x7fff))))
    }
}

impl Arithmetic for F32x4 {
    const ENTRIES: usize = 0;

    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: see `F32x4`, as in all methods here.
        unsafe { vdupq_n_f32(v) }
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { vaddq_f32(self, b) }
    }
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { vsubq_f32(self, b) }
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { vmulq_f32(self, b) }
    }
    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { vdivq_f32(self, b) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: as above.
        unsafe { vsqrtq_f32(self) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { vfmaq_f32(b, self, a) }
    }
    #[inline(always)]
    fn mul_sub(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { vfmaq_f32(vnegq_f32(b), self, a) }
    }
    #[inline(always)]
    fn mul_add_exact(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        unsafe { vabsq_f32(self) }
    }
    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        // A NaN in either operand passes.
        // SAFETY: as above.
        unsafe { vminq_f32(self, limit) }
    }
    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        // SAFETY: as above.
        unsafe { vmaxq_f32(self, limit) }
    }
    #[inline(always)]
    fn times_sign(self, s: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let sign = vandq_u32(vreinterpretq_u32_f32(s), vdupq_n_u32(1 << 31));
            vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(self), sign))
        }
    }
    #[inline(always)]
    fn if_less(self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: as above.
        unsafe { vbslq_f32(vcltq_f32(self, b), x, y) }
    }
    #[inline(always)]
    fn quiet(self) -> Self {
        // SAFETY: as above.
        unsafe { vbslq_f32(vceqq_f32(self, self), self, vdupq_n_f32(f32::NAN)) }
    }
    #[inline(always)]
    fn exp2_parts(self) -> (Self, Self) {
        let w = self.at_least(Self::splat(LEAST_POWER));
        let key = w.add(Self::splat(ROUND));
        let f = w.sub(key.sub(Self::splat(ROUND)));
        // SAFETY: as above.
        (unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(key))) }, f)
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        Self::splat(1.0).div(self)
    }
}

impl Register for F32x4 {
    const LANES: usize = 4;
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
        unsafe { vst1q_f32(sums.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))) };
        sums
    }
    #[inline(always)]
    fn unzip(low: Self, high: Self) -> (Self, Self) {
        // SAFETY: as above.
        unsafe { (vuzp1q_f32(low, high), vuzp2q_f32(low, high)) }
    }
    #[inline(always)]
    fn zip(even: Self, odd: Self) -> (Self, Self) {
        // SAFETY: as above.
        unsafe { (vzip1q_f32(even, odd), vzip2q_f32(even, odd)) }
    }
    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self {
        let wide;
        // The intrinsic needs a type that Rust does not have yet.
        // SAFETY: the caller's promise; the instruction is part of Advanced SIMD, and reads and writes registers alone.
        unsafe {
            let halves = vld1_u16(p.cast());
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) halves, options(pure, nomem, nostack));
        }
        wide
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> (Self, Self) {
        // SAFETY: the caller's promise.
        unsafe {
            let pairs = vreinterpretq_u32_u16(vld1q_u16(p.cast()));
            let odd = vandq_u32(pairs, vdupq_n_u32(0xffff_0000));
            (vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)), vreinterpretq_f32_u32(odd))
        }
    }
    #[inline(always)]
    unsafe fn store_f32(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(p, self) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut f16) {
        // SAFETY: the caller's promise; the instruction is part of Advanced SIMD, and reads and writes registers alone.
        unsafe {
            let halves: uint16x4_t;
            asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) self, options(pure, nomem, nostack));
            vst1_u16(p.cast(), halves);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, even: Self, odd: Self) {
        // The upper halves of both, by turns.
        // SAFETY: the caller's promise.
        unsafe { vst1q_u16(p.cast(), vtrn2q_u16(round_to_bf16(even), round_to_bf16(odd))) }
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
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u8; LINE]>().write(from.cast::<[u8; LINE]>().read()) }
    }
    #[inline(always)]
    fn fence() {}
    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: a prefetch changes no register or memory, and is harmless for any address.
        unsafe { asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(nostack, preserves_flags, readonly)) };
    }
}
