//! DyT and Derf.

use core::f64::consts::FRAC_2_SQRT_PI;

use super::{Backward, Forward, Inputs, Place, places};
use crate::{Op, Problem};

/// f and f' at `u`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Curve {
    f: f64,
    slope: f64,
}

/// tanh u and its derivative. 1 − tanh²u would cancel; with e = exp(−2|u|) it is 4e/(1+e)².
fn tanh(u: f64) -> Curve {
    let e = (-2.0 * u.abs()).exp();
    Curve { f: u.tanh(), slope: 4.0 * e / ((1.0 + e) * (1.0 + e)) }
}

/// erf u and its derivative.
fn erf(u: f64) -> Curve {
    Curve { f: libm::erf(u), slope: FRAC_2_SQRT_PI * (-u * u).exp() }
}

pub(super) fn forward(problem: &Problem, inputs: &Inputs<'_>, out: &mut Forward) {
    for Place { at, .. } in places(problem) {
        let scaled = inputs.alpha * out.sum[at];
        out.u[at] = if problem.op().has_shift() { scaled + inputs.shift } else { scaled };
        out.f[at] = curve(problem.op(), out.u[at]).f;
    }
}

pub(super) fn backward(problem: &Problem, inputs: &Inputs<'_>, forward: &Forward, out: &mut Backward) {
    for Place { at, .. } in places(problem) {
        out.slope[at] = curve(problem.op(), forward.u[at]).slope;
        let g = out.h[at] * out.slope[at];
        out.dx[at] = inputs.alpha * g;
        out.dalpha += g * forward.sum[at];
        if problem.op().has_shift() {
            out.dshift += g;
        }
    }
}

fn curve(op: Op, u: f64) -> Curve {
    match op {
        Op::Dyt => tanh(u),
        Op::Derf => erf(u),
        Op::LayerNorm | Op::RmsNorm => Curve { f: f64::NAN, slope: f64::NAN },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_keep_relative_accuracy_where_f_is_saturated() {
        // sech²(20) and 2/√π·exp(−81), by 50-digit arithmetic.
        let (tanh, erf) = (tanh(20.0).slope, erf(9.0).slope);
        assert!((tanh / 1.699_341_702_116_635_6e-17 - 1.0).abs() < 1e-14, "{tanh:e}");
        assert!((erf / 7.492_073_428_245_974e-36 - 1.0).abs() < 1e-12, "{erf:e}");
    }

    #[test]
    fn infinities_saturate() {
        for op in [Op::Dyt, Op::Derf] {
            assert_eq!(curve(op, f64::INFINITY), Curve { f: 1.0, slope: 0.0 });
            assert_eq!(curve(op, f64::NEG_INFINITY), Curve { f: -1.0, slope: 0.0 });
            assert!(curve(op, f64::NAN).f.is_nan() && curve(op, f64::NAN).slope.is_nan());
        }
    }
}
