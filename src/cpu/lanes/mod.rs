//! One vector of f32 for each CPU level: [`Lanes`] is two registers as one value, so that a kernel reads like scalar code.
//!
//! A kernel is a struct that implements [`Kernel`]. Its `run` is `#[inline(always)]`, as is everything that it calls, so
//! that all of it is compiled inside [`Register::run`] with the level's target features.
//!
//! Safety: registers of a level exist only inside `Register::run` of that level. `Isa` calls it with the proof of
//! detection, and kernels call it for the level that they run on.

use core::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

use super::stored::Stored;

pub(crate) mod bits;
pub(crate) mod half_bits;
pub(crate) mod portable;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;

/// The lanes of the widest level.
pub(crate) const MAX_LANES: usize = 32;
/// The most entries of a table that a lookup chooses from.
pub(crate) const MAX_ENTRIES: usize = 32;
/// The exponent of [`UP`].
const UP_EXPONENT: u16 = 62;
/// The factor of all powers of two. With it a power as small as the least subnormal is a normal number, and the largest
/// product, 4·UP² in tanh′, is below the largest number.
pub(crate) const UP: f32 = f32::from_bits((127 + UP_EXPONENT as u32) << 23);
/// The least w of 2^w where s is put together from bits: s is then the least normal number.
const LEAST_POWER: f32 = -126.0 - UP_EXPONENT as f32;
/// 1.5·2²³ and the exponent's bias with that of [`UP`]: added to w they leave the biased exponent of s in the low bits.
const ROUND: f32 = 12_582_912.0 + 127.0 + UP_EXPONENT as f32;
/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// `v`, but one and the same NaN for all NaN, as [`Arithmetic::quiet`] has it: for values that kernels do not load as vectors.
#[inline(always)]
pub(crate) const fn quiet(v: f32) -> f32 {
    if v.is_nan() { f32::NAN } else { v }
}

/// Code that is compiled once for each CPU level.
pub(crate) trait Kernel {
    /// What the kernel returns.
    type Output;
    /// The body; implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The processor has the level of `R`; [`Register::run`] alone calls this.
    unsafe fn run<R: Register>(self) -> Self::Output;
}

/// Arithmetic lane by lane, as IEEE 754 says, to nearest, with subnormals: of one register, or of some as one value.
pub(crate) trait Arithmetic: Copy + 'static {
    /// How many entries of a table [`Self::lookup`] chooses from in one or two instructions; 0 where a lookup takes so many
    /// that other ways are faster.
    const ENTRIES: usize;

    /// All lanes `v`.
    fn splat(v: f32) -> Self;
    /// self + b.
    fn add(self, b: Self) -> Self;
    /// self − b.
    fn sub(self, b: Self) -> Self;
    /// self·b.
    fn mul(self, b: Self) -> Self;
    /// self/b.
    fn div(self, b: Self) -> Self;
    /// √self.
    fn sqrt(self) -> Self;
    /// self·a + b, rounded once where the level can.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// self·a − b, rounded once where the level can.
    fn mul_sub(self, a: Self, b: Self) -> Self;
    /// self·a + b, rounded once on every level.
    fn mul_add_exact(self, a: Self, b: Self) -> Self;
    /// |self|.
    fn abs(self) -> Self;
    /// The lesser of `self` and `limit`; a NaN in `self` passes, `limit` is no NaN.
    fn at_most(self, limit: Self) -> Self;
    /// The greater of `self` and `limit`; a NaN in `self` passes, `limit` is no NaN.
    fn at_least(self, limit: Self) -> Self;
    /// self, negated where `s` is negative.
    fn times_sign(self, s: Self) -> Self;
    /// `x` where self < b, else `y`; a comparison with NaN is false.
    fn if_less(self, b: Self, x: Self, y: Self) -> Self;
    /// self, but one and the same NaN for each NaN, whose lower 16 bits are 0: rounding to bf16 needs no test for it then.
    fn quiet(self) -> Self;
    /// The entry of `table`, of the first [`Self::ENTRIES`], that the lowest bits of the exponent and the highest of the
    /// fraction name: for 8 entries one bit of the fraction, for 32 three.
    #[inline(always)]
    fn lookup(self, _: &[f32; MAX_ENTRIES]) -> Self {
        unreachable!("a level without entries")
    }
    /// (s, f) with 2^self·[`UP`] = s·2^f, s a power of two and |f| ≤ 1/2, for self at most 0. Where 2^self is below all
    /// numbers, so is s/[`UP`].
    fn exp2_parts(self) -> (Self, Self);
    /// 1/self, within an ulp, of a positive number neither near the largest nor the least.
    fn reciprocal(self) -> Self;
}

/// One register of f32 of a level.
pub(crate) trait Register: Arithmetic + bits::Bits {
    /// Lanes of a register.
    const LANES: usize;
    /// Rows that are worked on side by side: as many as the registers hold.
    const ROWS: usize;

    /// Runs `kernel` in a function with the level's target features.
    ///
    /// # Safety
    /// The processor has the level.
    unsafe fn run<K: Kernel>(kernel: K) -> K::Output;

    /// The sums over the lanes of four registers, each in the same tree.
    fn sums(of: [Self; 4]) -> [f32; 4];
    /// The elements with even places of two registers in a row, then those with odd places.
    fn unzip(low: Self, high: Self) -> (Self, Self);
    /// The reverse of [`Self::unzip`].
    fn zip(even: Self, odd: Self) -> (Self, Self);

    /// # Safety
    /// `p` is valid for reads of [`Self::LANES`] values, here and below.
    unsafe fn load_f32(p: *const f32) -> Self;
    /// # Safety
    /// As [`Self::load_f32`].
    unsafe fn load_f16(p: *const f16) -> Self;
    /// Two registers' worth: even elements, then odd ones.
    ///
    /// # Safety
    /// `p` is valid for reads of twice [`Self::LANES`] values.
    unsafe fn load_bf16(p: *const bf16) -> (Self, Self);
    /// # Safety
    /// `p` is valid for writes of [`Self::LANES`] values, here and below.
    unsafe fn store_f32(self, p: *mut f32);
    /// Rounds once, to nearest even.
    ///
    /// # Safety
    /// As [`Self::store_f32`].
    unsafe fn store_f16(self, p: *mut f16);
    /// Rounds once, to nearest even; a NaN has zeros in its lower 16 bits. The reverse of [`Self::load_bf16`].
    ///
    /// # Safety
    /// `p` is valid for writes of twice [`Self::LANES`] values.
    unsafe fn store_bf16(p: *mut bf16, even: Self, odd: Self);
    /// The first `n` values as a vector, as [`Stored::load`] orders it; the other lanes repeat the first one.
    ///
    /// # Safety
    /// `p` is valid for reads of `n` values, at least one and fewer than [`Lanes::LANES`], here and below.
    #[inline(always)]
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Lanes<Self> {
        // SAFETY: the caller's promise.
        unsafe { padded(p, n) }
    }
    /// # Safety
    /// As [`Self::load_f32_part`].
    #[inline(always)]
    unsafe fn load_f16_part(p: *const f16, n: usize) -> Lanes<Self> {
        // SAFETY: the caller's promise.
        unsafe { padded(p, n) }
    }
    /// # Safety
    /// As [`Self::load_f32_part`].
    #[inline(always)]
    unsafe fn load_bf16_part(p: *const bf16, n: usize) -> Lanes<Self> {
        // SAFETY: the caller's promise.
        unsafe { padded(p, n) }
    }
    /// Whether vectors of f32 and of 16 bits can be written past the cache as they are.
    const STREAMS: bool;
    /// As [`Self::store_f32`], past the cache.
    ///
    /// # Safety
    /// As [`Self::store_f32`], and `p` is aligned to the register; the level [`Self::STREAMS`].
    unsafe fn stream_f32(self, p: *mut f32);
    /// As [`Self::store_f16`], past the cache.
    ///
    /// # Safety
    /// As [`Self::store_f16`], and `p` is aligned to half a register; the level [`Self::STREAMS`].
    unsafe fn stream_f16(self, p: *mut f16);
    /// As [`Self::store_bf16`], past the cache.
    ///
    /// # Safety
    /// As [`Self::store_bf16`], and `p` is aligned to a register; the level [`Self::STREAMS`].
    unsafe fn stream_bf16(p: *mut bf16, even: Self, odd: Self);
    /// Copies `n` bytes, an even number of at most [`MAX_LANES`] f32.
    ///
    /// # Safety
    /// `from` is valid for reads and `to` for writes of `n` bytes, apart from each other.
    #[inline(always)]
    unsafe fn copy_few(from: *const u8, to: *mut u8, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { copy_by_powers(from, to, n) }
    }
    /// Copies a line of the cache past the cache, where the level can.
    ///
    /// # Safety
    /// `from` is valid for reads and `to` for writes of [`LINE`] bytes, and `to` is aligned to them.
    unsafe fn stream_line(from: *const u8, to: *mut u8);
    /// Orders what was streamed before all later stores of this thread.
    fn fence();
    /// Asks for the cache line at `p`, which need not be valid.
    fn prefetch(p: *const u8);
}

/// A copy of the first `n` values, with the first one behind them, as a vector.
///
/// # Safety
/// `p` is valid for reads of `n` values, at least one and fewer than a vector has lanes.
#[inline(always)]
unsafe fn padded<R: Register, T: Stored>(p: *const T, n: usize) -> Lanes<R> {
    // SAFETY: the copy holds a vector; the caller's promise.
    unsafe {
        let mut padded = [*p; MAX_LANES];
        R::copy_few(p.cast(), padded.as_mut_ptr().cast(), n * size_of::<T>());
        T::load(padded.as_ptr())
    }
}

/// Copies less than 256 bytes, an even number, by powers of two: a copy of variable length would be a call.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `n` bytes, apart from each other.
#[inline(always)]
unsafe fn copy_by_powers(from: *const u8, to: *mut u8, n: usize) {
    let mut at = 0;
    macro_rules! part {
        ($bytes:literal) => {
            if n & $bytes != 0 {
                // SAFETY: the parts lie side by side in the `n` bytes; bytes need no alignment.
                unsafe {
                    let part = from.add(at).cast::<[u8; $bytes]>().read();
                    to.add(at).cast::<[u8; $bytes]>().write(part);
                }
                at += $bytes;
            }
        };
    }
    part!(128);
    part!(64);
    part!(32);
    part!(16);
    part!(8);
    part!(4);
    part!(2);
    let _ = at;
}

/// Two registers as one value: neighbouring elements in a row, or the even ones and the odd ones; `Stored` says which.
/// Or two such values, of two rows: their chains of dependent instructions overlap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes<V>(pub(crate) V, pub(crate) V);

impl<R: Register> Lanes<R> {
    /// How many lanes there are.
    pub(crate) const LANES: usize = 2 * R::LANES;

    /// The first and the second register of what `p` points to.
    ///
    /// # Safety
    /// `p` is valid for reads of as many values as there are lanes.
    #[inline(always)]
    pub(crate) unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(R::load_f32(p), R::load_f32(p.add(R::LANES))) }
    }

    /// # Safety
    /// `p` is valid for writes of as many values as there are lanes.
    #[inline(always)]
    pub(crate) unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            self.0.store_f32(p);
            self.1.store_f32(p.add(R::LANES));
        }
    }

    /// self where `mask` is above 0, else 0.
    #[inline(always)]
    pub(crate) fn keep(self, mask: Self) -> Self {
        let zero = Self::splat(0.0);
        zero.if_less(mask, self, zero)
    }

    /// The sums over the lanes of four vectors, each in the same tree.
    #[inline(always)]
    pub(crate) fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        R::sums([a.0.add(a.1), b.0.add(b.1), c.0.add(c.1), d.0.add(d.1)])
    }

    /// From the order of memory: even elements, then odd ones.
    #[inline(always)]
    pub(crate) fn unzip(self) -> Self {
        let (even, odd) = R::unzip(self.0, self.1);
        Self(even, odd)
    }

    /// Back to the order of memory.
    #[inline(always)]
    pub(crate) fn zip(self) -> Self {
        let (low, high) = R::zip(self.0, self.1);
        Self(low, high)
    }
}

macro_rules! lane_by_lane {
    ($($method:ident($($operand:ident),*);)*) => {
        $(#[inline(always)]
        fn $method(self $(, $operand: Self)*) -> Self {
            Self(self.0.$method($($operand.0),*), self.1.$method($($operand.1),*))
        })*
    };
}

impl<V: Arithmetic> Arithmetic for Lanes<V> {
    const ENTRIES: usize = V::ENTRIES;

    #[inline(always)]
    fn splat(v: f32) -> Self {
        Self(V::splat(v), V::splat(v))
    }
    lane_by_lane! {
        add(b);
        sub(b);
        mul(b);
        div(b);
        sqrt();
        mul_add(a, b);
        mul_sub(a, b);
        mul_add_exact(a, b);
        abs();
        at_most(limit);
        at_least(limit);
        times_sign(s);
        if_less(b, x, y);
        quiet();
        reciprocal();
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; MAX_ENTRIES]) -> Self {
        Self(self.0.lookup(table), self.1.lookup(table))
    }
    #[inline(always)]
    fn exp2_parts(self) -> (Self, Self) {
        let ((s0, f0), (s1, f1)) = (self.0.exp2_parts(), self.1.exp2_parts());
        (Self(s0, s1), Self(f0, f1))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {
        $(impl<V: Arithmetic> $trait for Lanes<V> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, b: Self) -> Self {
                Arithmetic::$method(self, b)
            }
        })*
    };
}
operators!(Add add, Sub sub, Mul mul, Div div);
