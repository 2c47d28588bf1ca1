//! The memory accesses that each storage type needs.

use half::{bf16, f16};

use super::Line;
use super::each::each;
use super::simd::Simd;
use super::simd::half_bits::{bf16_to_f32, f16_to_f32};
use crate::Element;

/// Vector access to one storage type. Alignment and validity are as in [`Simd`]'s methods of the same name.
pub(crate) trait Stored: Element {
    /// The value +0.
    const ZERO: Self;
    /// 1, as often as an absent gamma is read at once.
    const ONES: &'static Line<Self>;
    /// -0, as often as an absent beta is read at once.
    const NEGATIVE_ZEROS: &'static Line<Self>;
    /// Whether rounding to this type leaves fewer than 24 bits.
    const NARROW: bool;
    /// The value as f32.
    fn widen(self) -> f32;
    /// The value rounded once, to nearest even.
    fn narrow(v: f32) -> Self;
    /// Loads `S::LANES` values.
    ///
    /// # Safety
    /// `p` is valid for reads of `S::LANES` values.
    unsafe fn load<S: Simd>(simd: S, p: *const Self) -> S::F;
    /// Rounds and stores `S::LANES` values.
    ///
    /// # Safety
    /// `p` is valid for writes of `S::LANES` values, and aligned to the stored vector if `stream`.
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, v: S::F, stream: bool);
    /// Rounds and stores the values of `N` vectors, one behind the other.
    ///
    /// # Safety
    /// As [`Self::store`], for all of them.
    #[inline(always)]
    unsafe fn store_all<S: Simd, const N: usize>(simd: S, p: *mut Self, v: [S::F; N], stream: bool) {
        each!(i < N, {
            // SAFETY: the caller's promise.
            unsafe { Self::store(simd, p.add(i * S::LANES), v[i], stream) };
        });
    }
}

macro_rules! stored {
    ($t:ty, $zero:expr, $minus:expr, $one:expr, $narrow:expr, $widen:expr, $round:expr, $load:ident, $store:ident
     $(, $more:item)?) => {
        impl Stored for $t {
            const ZERO: Self = $zero;
            const ONES: &'static Line<Self> = &[$one; _];
            const NEGATIVE_ZEROS: &'static Line<Self> = &[$minus; _];
            const NARROW: bool = $narrow;
            #[inline(always)]
            fn widen(self) -> f32 {
                $widen(self)
            }
            #[inline(always)]
            fn narrow(v: f32) -> Self {
                $round(v)
            }
            #[inline(always)]
            unsafe fn load<S: Simd>(simd: S, p: *const Self) -> S::F {
                // SAFETY: the caller's promise is the callee's demand.
                unsafe { simd.$load(p) }
            }
            #[inline(always)]
            unsafe fn store<S: Simd>(simd: S, p: *mut Self, v: S::F, stream: bool) {
                // SAFETY: the caller's promise is the callee's demand.
                unsafe { simd.$store(p, v, stream) }
            }
            $($more)?
        }
    };
}
stored!(f32, 0.0, -0.0, 1.0, false, core::convert::identity, core::convert::identity, load_f32, store_f32);
stored!(
    f16,
    f16::ZERO,
    f16::NEG_ZERO,
    f16::ONE,
    true,
    |h: f16| f16_to_f32(h.to_bits()),
    f16::from_f32,
    load_f16,
    store_f16
);
stored!(
    bf16,
    bf16::ZERO,
    bf16::NEG_ZERO,
    bf16::ONE,
    true,
    |b: bf16| bf16_to_f32(b.to_bits()),
    bf16::from_f32,
    load_bf16,
    store_bf16,
    #[inline(always)]
    unsafe fn store_all<S: Simd, const N: usize>(simd: S, p: *mut Self, v: [S::F; N], stream: bool) {
        let mut i = 0;
        while i < N {
            // SAFETY: the caller's promise.
            unsafe {
                if i + 1 < N {
                    simd.store_bf16_pair(p.add(i * S::LANES), [v[i], v[i + 1]], stream);
                } else {
                    simd.store_bf16(p.add(i * S::LANES), v[i], stream);
                }
            }
            i += 2;
        }
    }
);
