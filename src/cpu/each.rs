//! Loops over the few vectors of an array, written out.
//!
//! A loop would do the same. But a kernel has hundreds of them, and LLVM took half of its time to turn, simplify and
//! unroll them; what is written out here for more than there is falls away before it gets there.

use core::mem::MaybeUninit;

/// The most times that [`each!`] writes its block.
pub(crate) const MAX: usize = 4;

/// `each!(i < N, { … })` is the block for i = 0, 1, … N − 1, for a constant `N` of at most [`MAX`].
macro_rules! each {
    ($i:ident < $n:expr, $body:block) => {
        const { assert!($n <= $crate::cpu::each::MAX) };
        $crate::cpu::each::each!(@ $i 0 $n, $body);
        $crate::cpu::each::each!(@ $i 1 $n, $body);
        $crate::cpu::each::each!(@ $i 2 $n, $body);
        $crate::cpu::each::each!(@ $i 3 $n, $body);
    };
    (@ $i:ident $k:literal $n:expr, $body:block) => {
        if $k < $n {
            let $i: usize = $k;
            $body
        }
    };
}
pub(crate) use each;

/// `[value; N]`.
#[inline(always)]
pub(crate) fn repeat<T: Copy, const N: usize>(value: T) -> [T; N] {
    let mut array = MaybeUninit::<[T; N]>::uninit();
    each!(i < N, {
        // SAFETY: i < N.
        unsafe { array.as_mut_ptr().cast::<T>().add(i).write(value) };
    });
    // SAFETY: every element has been written.
    unsafe { array.assume_init() }
}
