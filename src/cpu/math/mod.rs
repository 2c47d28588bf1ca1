//! tanh and erf with their derivatives, on N vectors at once.
//!
//! Every function takes N independent vectors and works on them stage by stage, so that their chains of dependent
//! instructions overlap. A lane's result depends on that lane's input alone, not on N or on the lane's place.
//! Methods, domains and measured errors are in `docs/math.md`; the coefficients come from `docs/fit`.

mod erf;
mod exp;
mod table;
#[expect(clippy::approx_constant, reason = "a fitted coefficient may come near one")]
#[rustfmt::skip]
mod tables;
mod tanh;

pub(crate) use erf::{erf, erf_bf16, erf_f16, erf_grad};
pub(crate) use tanh::{tanh, tanh_bf16, tanh_f16, tanh_grad};

use super::each::{each, repeat};
use super::simd::{Lanes, Simd};

/// The polynomial with coefficients `c`, lowest first, at each of `x`.
#[inline(always)]
fn horner<S: Simd, const N: usize, const D: usize>(simd: S, c: &[f32; D], x: &[S::F; N]) -> [S::F; N] {
    let mut y = repeat(simd.splat(c[D - 1]));
    for k in (0..D - 1).rev() {
        let c = simd.splat(c[k]);
        each!(i < N, {
            y[i] = y[i].mul_add(x[i], c);
        });
    }
    y
}

/// `y` with the signs of `u`.
#[inline(always)]
fn signed<F: Lanes, const N: usize>(mut y: [F; N], u: &[F; N]) -> [F; N] {
    each!(i < N, {
        y[i] = y[i].with_sign(u[i]);
    });
    y
}

#[cfg(test)]
mod tests;
