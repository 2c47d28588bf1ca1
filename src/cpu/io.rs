//! How kernels reach memory: whole vectors, and the ragged ends of rows through a padded copy.

use crate::cpu::each::each;
use crate::cpu::simd::{Lanes, Simd};
use crate::cpu::stored::Stored;

/// The lanes of the widest level.
pub(crate) const MAX_LANES: usize = 16;

const IOTA: [f32; MAX_LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// How many lanes of a vector lie in memory, so that a kernel's body is written once for whole and ragged vectors.
pub(crate) trait Extent: Copy {
    /// Loads the lanes that are there; the others repeat the first, so that what is computed of them raises no flag of its
    /// own, as 0/0 would.
    ///
    /// # Safety
    /// `p` is valid for reads of as many values.
    unsafe fn load<S: Simd, T: Stored>(self, simd: S, p: *const T) -> S::F;
    /// Stores the lanes that are there.
    ///
    /// # Safety
    /// `p` is valid for writes of as many values, and aligned to the stored vector if `stream`.
    unsafe fn store<S: Simd, T: Stored>(self, simd: S, p: *mut T, v: S::F, stream: bool);
    /// Stores `N` vectors, one behind the other; `N` is 1 where lanes are missing.
    ///
    /// # Safety
    /// As [`Self::store`], for all of them.
    #[inline(always)]
    unsafe fn store_all<S: Simd, T: Stored, const N: usize>(
        self,
        simd: S,
        p: *mut T,
        v: [S::F; N],
        stream: bool,
    ) {
        each!(i < N, {
            // SAFETY: the caller's promise.
            unsafe { self.store(simd, p.add(i * S::LANES), v[i], stream) };
        });
    }
    /// `v` with 0 in the lanes that are not there.
    fn keep<S: Simd>(self, simd: S, v: S::F) -> S::F;
}

/// Every lane.
#[derive(Clone, Copy)]
pub(crate) struct Full;

impl Extent for Full {
    #[inline(always)]
    unsafe fn load<S: Simd, T: Stored>(self, simd: S, p: *const T) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { T::load(simd, p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd, T: Stored>(self, simd: S, p: *mut T, v: S::F, stream: bool) {
        // SAFETY: the caller's promise.
        unsafe { T::store(simd, p, v, stream) }
    }
    #[inline(always)]
    unsafe fn store_all<S: Simd, T: Stored, const N: usize>(
        self,
        simd: S,
        p: *mut T,
        v: [S::F; N],
        stream: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe { T::store_all(simd, p, v, stream) }
    }
    #[inline(always)]
    fn keep<S: Simd>(self, _: S, v: S::F) -> S::F {
        v
    }
}

/// The first so many lanes: at least 1, fewer than `S::LANES`.
#[derive(Clone, Copy)]
pub(crate) struct Tail(pub(crate) usize);

impl Extent for Tail {
    #[inline(always)]
    unsafe fn load<S: Simd, T: Stored>(self, simd: S, p: *const T) -> S::F {
        // SAFETY: the caller promises at least one value at `p`, fewer than the copy holds; the copy holds a vector.
        unsafe {
            let mut padded = [p.read(); MAX_LANES];
            copy_few(p, padded.as_mut_ptr(), self.0);
            T::load(simd, padded.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store<S: Simd, T: Stored>(self, simd: S, p: *mut T, v: S::F, _: bool) {
        let mut padded = [T::ZERO; MAX_LANES];
        // SAFETY: the copy holds a vector; the caller promises room for as many values at `p`, fewer than that.
        unsafe {
            T::store(simd, padded.as_mut_ptr(), v, false);
            copy_few(padded.as_ptr(), p, self.0);
        }
    }
    #[inline(always)]
    fn keep<S: Simd>(self, simd: S, v: S::F) -> S::F {
        // SAFETY: the table holds as many values as the widest vector.
        let lane = unsafe { simd.load_f32(IOTA.as_ptr()) };
        #[expect(clippy::cast_precision_loss, reason = "fewer than 16")]
        S::F::select(lane.lt(simd.splat(self.0 as f32)), v, simd.splat(0.0))
    }
}

/// Copies a few values, one by one.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `n` values.
#[inline(always)]
unsafe fn copy_few<T: Copy>(from: *const T, to: *mut T, n: usize) {
    for i in 0..n {
        // SAFETY: i < n, the caller's promise.
        unsafe { to.add(i).write(from.add(i).read()) };
    }
}

/// Bytes of a cache line, which is what is written past the cache.
const LINE: usize = 64;

/// How many elements lie from `p` to the next line of the cache.
#[inline(always)]
pub(crate) fn head<T: Stored>(p: *const T) -> usize {
    (p.addr().next_multiple_of(LINE) - p.addr()) / size_of::<T>()
}

/// Whether rows so far apart come to a line at the same column.
pub(crate) const fn lines_up<T: Stored>(row_stride: usize) -> bool {
    (row_stride * size_of::<T>()).is_multiple_of(LINE)
}

/// Whether so many vectors, from a line's begin, leave none half-written.
pub(crate) const fn whole_lines<S: Simd, T: Stored>(vectors: usize) -> bool {
    (vectors * S::LANES * size_of::<T>()).is_multiple_of(LINE)
}

/// Whether the vectors of a row that are stored together, two of 16 bits and else one, leave no line half-written.
pub(crate) const fn stores_whole_lines<S: Simd, T: Stored>() -> bool {
    whole_lines::<S, T>(if T::NARROW { 2 } else { 1 })
}

/// Whether half-written lines of rows so far apart drive each other out: those that are on their way past the cache are
/// few, and told apart by the low bits of their addresses.
pub(crate) const fn collide<T: Stored>(row_stride: usize) -> bool {
    (row_stride * size_of::<T>()).is_multiple_of(4096)
}

/// Copies `n` values past the cache, line by line.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of `n` values, apart from each other.
#[inline(always)]
pub(crate) unsafe fn stream_out<S: Simd, T: Stored>(simd: S, from: *const T, to: *mut T, n: usize) {
    let mut c = head(to.cast_const()).min(n);
    // SAFETY: every part lies in the `n` values, and whole lines begin on a line's boundary. Vectors of f32 take any
    // bits where they are only moved.
    unsafe {
        copy_few(from, to, c);
        while n - c >= LINE / size_of::<T>() {
            let (from, to) = (from.add(c).cast::<f32>(), to.add(c).cast::<f32>());
            for i in 0..LINE / (size_of::<f32>() * S::LANES) {
                simd.store_f32(to.add(i * S::LANES), simd.load_f32(from.add(i * S::LANES)), true);
            }
            c += LINE / size_of::<T>();
        }
        copy_few(from.add(c), to.add(c), n - c);
    }
}
