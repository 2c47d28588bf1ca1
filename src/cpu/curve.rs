//! The functions of the pointwise family, f(u) with u = alpha·x or alpha·x + shift.

use crate::cpu::math;
use crate::cpu::simd::Simd;

/// One function of the pointwise family.
pub(crate) trait Curve: Copy + Send + Sync + 'static {
    /// u for `N` vectors of x, rounded once.
    fn argument<S: Simd, const N: usize>(simd: S, x: [S::F; N], alpha: S::F, shift: S::F) -> [S::F; N];
    /// f(u); for 16-bit storage (`narrow`) to a quarter ulp of f16.
    fn value<S: Simd, const N: usize>(simd: S, u: [S::F; N], narrow: bool) -> [S::F; N];
    /// f(u) and f′(u).
    fn value_and_slope<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]);
}

/// f = tanh: DyT.
#[derive(Clone, Copy)]
pub(crate) struct Tanh;

/// f = erf: Derf.
#[derive(Clone, Copy)]
pub(crate) struct Erf;

impl Curve for Tanh {
    #[inline(always)]
    fn argument<S: Simd, const N: usize>(_: S, mut x: [S::F; N], alpha: S::F, _: S::F) -> [S::F; N] {
        for x in &mut x {
            *x = alpha * *x;
        }
        x
    }
    #[inline(always)]
    fn value<S: Simd, const N: usize>(simd: S, u: [S::F; N], narrow: bool) -> [S::F; N] {
        if narrow { math::tanh_narrow(simd, u) } else { math::tanh(simd, u) }
    }
    #[inline(always)]
    fn value_and_slope<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
        math::tanh_grad(simd, u)
    }
}

impl Curve for Erf {
    #[inline(always)]
    fn argument<S: Simd, const N: usize>(simd: S, mut x: [S::F; N], alpha: S::F, shift: S::F) -> [S::F; N] {
        for x in &mut x {
            *x = simd.mul_add_exact(alpha, *x, shift);
        }
        x
    }
    #[inline(always)]
    fn value<S: Simd, const N: usize>(simd: S, u: [S::F; N], narrow: bool) -> [S::F; N] {
        if narrow { math::erf_narrow(simd, u) } else { math::erf(simd, u) }
    }
    #[inline(always)]
    fn value_and_slope<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
        math::erf_grad(simd, u)
    }
}
