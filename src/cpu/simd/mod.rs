//! The vector types of each CPU level behind two small traits, so that every kernel is written once.
//!
//! A value of a type that implements [`Simd`] proves that the running CPU has that level's instructions: such
//! values are made by [`crate::cpu::level`] alone, after detection. A kernel is a struct that implements
//! [`Kernel`]; [`Simd::run`] calls it inside a function compiled with the level's target features, and everything
//! below is `#[inline(always)]`, so that it is compiled with those features too.

use core::ops::{Add, Div, Mul, Neg, Sub};

use half::{bf16, f16};

pub(crate) mod half_bits;
pub(crate) mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;

/// Code that is compiled once for each CPU level.
pub(crate) trait Kernel {
    /// What the kernel returns.
    type Output;
    /// The body; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// One CPU level: how to make, load and store its vectors of f32.
///
/// The unsafe methods read or write memory at `p`, which must be valid for as many elements as they name and
/// aligned for the element type (not for the vector).
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Self::LANES`] f32.
    type F: Lanes;
    /// Lanes of [`Self::F`].
    const LANES: usize;
    /// How many vectors of [`Self::F`] the registers hold: how much is worked on side by side.
    const REGISTERS: usize;
    /// Whether [`Lanes::mul_add`] rounds once.
    const FUSED: bool;
    /// How many entries of a table [`Self::lookup`] chooses from in one instruction: 8 or 16, or 0 where it takes
    /// so many more that polynomials are faster.
    const ENTRIES: usize;

    /// Runs `kernel` inside a function with this level's target features.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// All lanes `v`.
    fn splat(self, v: f32) -> Self::F;

    /// The entries of `table` that the low bits of each lane of `index` name; `E` is 8 or 16.
    fn lookup<const E: usize>(self, table: &[f32; E], index: Self::F) -> Self::F;

    /// alpha·x + shift rounded once, whether or not the level has a fused multiply-add.
    fn mul_add_exact(self, alpha: Self::F, x: Self::F, shift: Self::F) -> Self::F;

    /// Loads `LANES` values.
    ///
    /// # Safety
    /// `p` is valid for reads of `LANES` values.
    unsafe fn load_f32(self, p: *const f32) -> Self::F;
    /// Loads and widens `LANES` values.
    ///
    /// # Safety
    /// `p` is valid for reads of `LANES` values.
    unsafe fn load_f16(self, p: *const f16) -> Self::F;
    /// Loads and widens `LANES` values.
    ///
    /// # Safety
    /// `p` is valid for reads of `LANES` values.
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F;

    /// Stores `LANES` values; past the cache if `stream` and `p` is aligned to the stored vector.
    ///
    /// # Safety
    /// `p` is valid for writes of `LANES` values and, if `stream`, aligned to `LANES * 4` bytes.
    unsafe fn store_f32(self, p: *mut f32, v: Self::F, stream: bool);
    /// Rounds once to nearest even and stores `LANES` values.
    ///
    /// # Safety
    /// As [`Self::store_f32`], aligned to `LANES * 2` bytes if `stream`.
    unsafe fn store_f16(self, p: *mut f16, v: Self::F, stream: bool);
    /// Rounds once to nearest even and stores `LANES` values; a NaN stays a NaN.
    ///
    /// # Safety
    /// As [`Self::store_f32`], aligned to `LANES * 2` bytes if `stream`.
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F, stream: bool);
    /// [`Self::store_bf16`] of two vectors, the second behind the first: for levels that round and pack two at less
    /// than the price of two.
    ///
    /// # Safety
    /// As [`Self::store_bf16`], for both.
    #[inline(always)]
    unsafe fn store_bf16_pair(self, p: *mut bf16, v: [Self::F; 2], stream: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            self.store_bf16(p, v[0], stream);
            self.store_bf16(p.add(Self::LANES), v[1], stream);
        }
    }

    /// Orders streamed stores before all later stores of this thread; a no-op where there are none.
    fn fence(self);

    /// Asks for the cache line at `p`, which need not be valid.
    fn prefetch(self, p: *const u8);
}

/// Arithmetic on one vector of f32, lane by lane, as IEEE 754 says (round to nearest, subnormals kept).
pub(crate) trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// One bit or one all-ones lane for each lane.
    type Mask: Copy;

    /// self·a + b, rounded once where [`Simd::FUSED`].
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The square root, rounded once.
    fn sqrt(self) -> Self;
    /// |self|.
    fn abs(self) -> Self;
    /// `self`, which is not negative, with the sign of `sign`.
    fn with_sign(self, sign: Self) -> Self;
    /// The lesser of `self` and `limit`; a NaN in `self` passes, `limit` is no NaN.
    fn at_most(self, limit: Self) -> Self;
    /// The greater of `self` and `limit`; a NaN in `self` passes, `limit` is no NaN.
    fn at_least(self, limit: Self) -> Self;
    /// self < other; false for a NaN.
    fn lt(self, other: Self) -> Self::Mask;
    /// `a` where `mask` is set, else `b`.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;
    /// Whether `mask` is set in any lane.
    fn any(mask: Self::Mask) -> bool;
    /// The bits of each lane shifted left by `n`, less than 32.
    fn shift_left(self, n: u8) -> Self;
    /// The bits of each lane shifted right by `n`, less than 32; zeros come in.
    fn shift_right(self, n: u8) -> Self;
    /// The sum of the bits of each lane as integers; overflow is cut off.
    fn add_bits(self, other: Self) -> Self;
    /// Keeps the upper 12 bits of the significand and drops the rest, towards zero.
    fn truncate_12(self) -> Self;
    /// The sum of all lanes, added in a fixed tree order: halves, then quarters, and so on.
    fn sum(self) -> f32;
}
