//! LayerNorm, in both forms, and RMSNorm.

use super::{Backward, Forward, row};
use crate::{Op, Problem, Std};

pub(super) fn forward(problem: &Problem, out: &mut Forward) {
    let cols = problem.cols() as f64;
    let eps = f64::from(problem.eps());
    for statistic in 0..problem.statistics() {
        let x = row(problem, statistic).map(|at| out.sum[at]);
        let mean = if problem.op() == Op::LayerNorm { x.clone().sum::<f64>() / cols } else { 0.0 };
        let squares: f64 = x.map(|x| (x - mean) * (x - mean)).sum();
        let (std, rstd) = match problem.std() {
            Std::Biased => ((squares / cols).sqrt(), 1.0 / (squares / cols + eps).sqrt()),
            Std::Unbiased => {
                let std = (squares / (cols - 1.0)).sqrt();
                (std, 1.0 / (std + eps))
            }
        };
        for at in row(problem, statistic) {
            out.f[at] = (out.sum[at] - mean) * rstd;
        }
        out.mean[statistic] = mean;
        out.rstd[statistic] = rstd;
        out.std[statistic] = std;
    }
}

/// With r = rstd and s = std, from the chain rule:
///
/// ```text
/// LayerNorm            dx = r·(h − mean(h) − x̂·Σ(h·x̂)/cols)
/// LayerNorm, unbiased  dx = r·(h − mean(h) − x̂·Σ(h·x̂)/((cols − 1)·s·r)), the last term 0 where s = 0
/// RMSNorm              dx = r·(h − x̂·Σ(h·x̂)/cols)
/// ```
pub(super) fn backward(problem: &Problem, forward: &Forward, out: &mut Backward) {
    let cols = problem.cols() as f64;
    for statistic in 0..problem.statistics() {
        let (r, s) = (forward.rstd[statistic], forward.std[statistic]);
        let sum_h: f64 = row(problem, statistic).map(|at| out.h[at]).sum();
        let sum_hx: f64 = row(problem, statistic).map(|at| out.h[at] * forward.f[at]).sum();
        let mean_h = if problem.op() == Op::LayerNorm { sum_h / cols } else { 0.0 };
        let slant = match problem.std() {
            Std::Biased => sum_hx / cols,
            Std::Unbiased if s == 0.0 => 0.0,
            Std::Unbiased => sum_hx / ((cols - 1.0) * s * r),
        };
        for at in row(problem, statistic) {
            out.dx[at] = r * (out.h[at] - mean_h - forward.f[at] * slant);
        }
    }
}
