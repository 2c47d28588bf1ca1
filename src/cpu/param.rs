//! gamma and beta, which may be absent.

use crate::cpu::each::{each, repeat};
use crate::cpu::io::{Extent, MAX_LANES};
use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;

/// The most vectors that are loaded at once.
const MAX_VECTORS: usize = 4;

/// One value that stands for all columns.
pub(crate) type Line<P> = [P; MAX_VECTORS * MAX_LANES];

/// The parameter of each column. An absent one is read from a short constant line again and again, which costs no
/// branch and no second copy of the kernels.
#[derive(Clone, Copy)]
pub(crate) struct Param<P> {
    p: *const P,
    /// All ones; 0 keeps to the beginning of the constant line.
    mask: usize,
}

// SAFETY: the pointer is that of a checked argument or of a constant.
unsafe impl<P> Send for Param<P> {}
// SAFETY: as above.
unsafe impl<P> Sync for Param<P> {}

impl<P: Stored> Param<P> {
    /// 1 where absent.
    pub(crate) fn gamma(p: *const u8) -> Self {
        Self::new(p.cast(), P::ONES)
    }

    /// -0 where absent: the value that changes nothing it is added to, -0 included.
    pub(crate) fn beta(p: *const u8) -> Self {
        Self::new(p.cast(), P::NEGATIVE_ZEROS)
    }

    fn new(p: *const P, absent: &'static Line<P>) -> Self {
        if p.is_null() { Self { p: absent.as_ptr(), mask: 0 } } else { Self { p, mask: usize::MAX } }
    }
}

impl<P: Stored> Param<P> {
    /// The values of `N` vectors from column `c` on.
    ///
    /// # Safety
    /// The columns exist; `N` is at most [`MAX_VECTORS`].
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd, E: Extent, const N: usize>(
        self,
        simd: S,
        extent: E,
        c: usize,
    ) -> [S::F; N] {
        let mut values = repeat(simd.splat(0.0));
        each!(i < N, {
            // SAFETY: the caller's promise.
            values[i] = unsafe { extent.load(simd, self.p.add((c & self.mask) + i * S::LANES)) };
        });
        values
    }

    /// The value of column `c`.
    ///
    /// # Safety
    /// The column exists.
    pub(crate) unsafe fn at(self, c: usize) -> f64 {
        // SAFETY: the caller's promise.
        f64::from(unsafe { (*self.p.add(c & self.mask)).widen() })
    }

    /// The value of column `c` in all lanes.
    ///
    /// # Safety
    /// The column exists.
    #[inline(always)]
    pub(crate) unsafe fn splat<S: Simd>(self, simd: S, c: usize) -> S::F {
        // SAFETY: the caller's promise.
        simd.splat(unsafe { (*self.p.add(c & self.mask)).widen() })
    }
}
