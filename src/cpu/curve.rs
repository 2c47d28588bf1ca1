//! The functions of the pointwise family, f(u) with u = alpha·x or alpha·x + shift.

use crate::DType;
use crate::cpu::each::each;
use crate::cpu::math;
use crate::cpu::simd::Simd;

/// One function of the pointwise family.
pub(crate) trait Curve: Copy + Send + Sync + 'static {
    /// u for `N` vectors of x, rounded once.
    fn argument<S: Simd, const N: usize>(simd: S, x: [S::F; N], alpha: S::F, shift: S::F) -> [S::F; N];
    /// f(u) for storage as `dtype`: to 2 ulp of f32, or a quarter ulp of f16 or bf16.
    fn value<S: Simd, const N: usize>(simd: S, u: [S::F; N], dtype: DType) -> [S::F; N];
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
        each!(i < N, {
            x[i] = alpha * x[i];
        });
        x
    }
    #[inline(always)]
    fn value<S: Simd, const N: usize>(simd: S, u: [S::F; N], dtype: DType) -> [S::F; N] {
        match dtype {
            DType::F32 => math::tanh(simd, u),
            DType::F16 => math::tanh_f16(simd, u),
            DType::Bf16 => math::tanh_bf16(simd, u),
        }
    }
    #[inline(always)]
    fn value_and_slope<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
        math::tanh_grad(simd, u)
    }
}

impl Curve for Erf {
    #[inline(always)]
    fn argument<S: Simd, const N: usize>(simd: S, mut x: [S::F; N], alpha: S::F, shift: S::F) -> [S::F; N] {
        each!(i < N, {
            x[i] = simd.mul_add_exact(alpha, x[i], shift);
        });
        x
    }
    #[inline(always)]
    fn value<S: Simd, const N: usize>(simd: S, u: [S::F; N], dtype: DType) -> [S::F; N] {
        match dtype {
            DType::F32 => math::erf(simd, u),
            DType::F16 => math::erf_f16(simd, u),
            DType::Bf16 => math::erf_bf16(simd, u),
        }
    }
    #[inline(always)]
    fn value_and_slope<S: Simd, const N: usize>(simd: S, u: [S::F; N]) -> ([S::F; N], [S::F; N]) {
        math::erf_grad(simd, u)
    }
}
