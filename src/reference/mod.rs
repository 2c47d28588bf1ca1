//! The formulas in f64, one scalar at a time: what every kernel is tested against. Feature `reference`.
//!
//! Nothing here is fast and nothing is clever, but for two places where the textbook's formula cancels: the
//! derivative of tanh is 4e/(1+e)² with e = exp(−2|u|), and a row's deviations are taken from its mean in a second
//! pass. The results carry the intermediate values too (u, f, x̂, rstd, h, …), because bounds of errors are made
//! of them.
//!
//! ```
//! use dyt::{Op, Problem, reference};
//! let problem = Problem::new(Op::Dyt, 1, 2).build()?;
//! let inputs = reference::Inputs { alpha: 0.5, ..reference::Inputs::new(&[1.0, -4.0]) };
//! let forward = reference::forward(&problem, &inputs)?;
//! assert_eq!(forward.y, [0.5_f64.tanh(), (-2.0_f64).tanh()]);
//! let backward = reference::backward(&problem, &inputs, &[1.0, 1.0])?;
//! assert_eq!(backward.dbeta, [1.0, 1.0]);
//! # Ok::<(), dyt::Error>(())
//! ```

mod pointwise;
mod quant;
mod rownorm;

pub use quant::{quantised, scale, value};

use half::{bf16, f16};

use crate::error::Argument;
use crate::{DType, Error, Op, Problem, Result};

/// What an op reads in both directions, widened to f64.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The input, in the layout of the problem; gaps between rows are not looked at.
    pub x: &'a [f64],
    /// What is added to x, laid out as x is; nothing if absent.
    pub residual: Option<&'a [f64]>,
    /// What the backward adds to dx, the gradient of the sum; nothing if absent.
    pub dsum: Option<&'a [f64]>,
    /// The factor of DyT and Derf.
    pub alpha: f64,
    /// The offset of Derf.
    pub shift: f64,
    /// What the problem's gamma_offset is added to, for each column; if absent, the factor is 1.
    pub gamma: Option<&'a [f64]>,
    /// The offset of each column; 0 if absent.
    pub beta: Option<&'a [f64]>,
}

impl<'a> Inputs<'a> {
    /// With alpha 1, shift 0, and without residual, dsum, gamma and beta.
    #[must_use]
    pub const fn new(x: &'a [f64]) -> Self {
        Self { x, residual: None, dsum: None, alpha: 1.0, shift: 0.0, gamma: None, beta: None }
    }

    /// The factor of column `c`: gamma and its offset as their sum is in f32, or 1.
    fn factor(&self, problem: &Problem, c: usize) -> f64 {
        let Some(gamma) = self.gamma else { return 1.0 };
        let offset = f64::from(problem.gamma_offset());
        if offset == 0.0 { gamma[c] } else { f64::from((gamma[c] + offset) as f32) }
    }

    /// What the op is applied to at index `at`: x, or its sum with the residual as the storage type holds it.
    fn summed(&self, problem: &Problem, at: usize) -> f64 {
        let Some(residual) = self.residual else { return self.x[at] };
        // The sum of two f32, rounded to f64 and then to f32, is the sum rounded once.
        let sum = (self.x[at] + residual[at]) as f32;
        match problem.dtype() {
            // Data has no type of a quantised y.
            DType::F32 | DType::Quant(_) => f64::from(sum),
            DType::F16 => f16::from_f32(sum).to_f64(),
            DType::Bf16 => bf16::from_f32(sum).to_f64(),
        }
    }

    fn check(&self, problem: &Problem) -> Result<()> {
        check_tensor(problem, Argument::X, self.x)?;
        self.residual.map_or(Ok(()), |residual| check_tensor(problem, Argument::Residual, residual))?;
        self.dsum.map_or(Ok(()), |dsum| check_tensor(problem, Argument::Dsum, dsum))?;
        check_columns(problem, Argument::Gamma, self.gamma)?;
        check_columns(problem, Argument::Beta, self.beta)
    }
}

/// The results of a forward. Tensors have the layout of x with zeros in the gaps, and `Problem::span` elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The output.
    pub y: Vec<f64>,
    /// What the op is applied to: x, or x + residual as it is stored.
    pub sum: Vec<f64>,
    /// DyT, Derf: the argument of f. The norms: zeros.
    pub u: Vec<f64>,
    /// What the factor multiplies: f(u) of DyT and Derf, x̂ of the norms.
    pub f: Vec<f64>,
    /// LayerNorm: the mean of each row; zeros otherwise.
    pub mean: Vec<f64>,
    /// The norms: rstd of each row; zeros otherwise.
    pub rstd: Vec<f64>,
    /// The norms: √(Σ(x−mean)²/cols), of RMSNorm √(Σx²/cols), with cols−1 in the unbiased form; zeros otherwise.
    pub std: Vec<f64>,
}

/// The results of a backward. Tensors are laid out as in [`Forward`]; sums are over the whole tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Backward {
    /// The gradient of x, and of the residual.
    pub dx: Vec<f64>,
    /// The gradient of alpha; 0 for the norms.
    pub dalpha: f64,
    /// The gradient of shift; 0 for all but Derf.
    pub dshift: f64,
    /// The gradient of gamma, for each column.
    pub dgamma: Vec<f64>,
    /// The gradient of beta, for each column.
    pub dbeta: Vec<f64>,
    /// dy times the factor: the gradient of what the factor multiplies.
    pub h: Vec<f64>,
    /// DyT, Derf: f'(u). The norms: zeros.
    pub slope: Vec<f64>,
}

/// Where an element lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index in x, y, dy and dx.
    pub at: usize,
    /// Its index in gamma and beta.
    pub column: usize,
    /// Its index in mean and rstd.
    pub statistic: usize,
}

/// Every element of a problem, in the order of its memory.
pub fn places(problem: &Problem) -> impl Iterator<Item = Place> {
    let (rows, cols, inner, stride) = (problem.rows(), problem.cols(), problem.inner(), problem.row_stride());
    (0..rows).flat_map(move |n| {
        (0..cols).flat_map(move |c| {
            (0..inner).map(move |s| Place {
                at: n * stride + c * inner + s,
                column: c,
                statistic: n * inner + s,
            })
        })
    })
}

/// The index in x of each element of the row whose statistics have index `statistic`.
pub fn row(problem: &Problem, statistic: usize) -> impl Iterator<Item = usize> + Clone {
    let inner = problem.inner();
    let first = statistic / inner * problem.row_stride() + statistic % inner;
    (0..problem.cols()).map(move |c| first + c * inner)
}

/// The forward of the problem's op.
///
/// # Errors
/// [`Error::WrongLength`] of `x`, `residual`, `dsum`, `gamma` or `beta`.
pub fn forward(problem: &Problem, inputs: &Inputs<'_>) -> Result<Forward> {
    inputs.check(problem)?;
    let mut out = Forward {
        y: vec![0.0; problem.span()],
        sum: vec![0.0; problem.span()],
        u: vec![0.0; problem.span()],
        f: vec![0.0; problem.span()],
        mean: vec![0.0; problem.statistics()],
        rstd: vec![0.0; problem.statistics()],
        std: vec![0.0; problem.statistics()],
    };
    for Place { at, .. } in places(problem) {
        out.sum[at] = inputs.summed(problem, at);
    }
    match problem.op() {
        Op::Dyt | Op::Derf => pointwise::forward(problem, inputs, &mut out),
        Op::LayerNorm | Op::RmsNorm => rownorm::forward(problem, &mut out),
    }
    for place in places(problem) {
        let scaled = inputs.factor(problem, place.column) * out.f[place.at];
        // Without beta nothing is added: −0 + 0 would be +0.
        out.y[place.at] = inputs.beta.map_or(scaled, |beta| scaled + beta[place.column]);
    }
    Ok(out)
}

/// The backward of the problem's op, with every gradient.
///
/// # Errors
/// As [`forward`], and [`Error::WrongLength`] of `dy`.
pub fn backward(problem: &Problem, inputs: &Inputs<'_>, dy: &[f64]) -> Result<Backward> {
    check_tensor(problem, Argument::Dy, dy)?;
    let forward = forward(problem, inputs)?;
    let mut out = Backward {
        dx: vec![0.0; problem.span()],
        dalpha: 0.0,
        dshift: 0.0,
        dgamma: vec![0.0; problem.cols()],
        dbeta: vec![0.0; problem.cols()],
        h: vec![0.0; problem.span()],
        slope: vec![0.0; problem.span()],
    };
    for Place { at, column, .. } in places(problem) {
        out.h[at] = dy[at] * inputs.factor(problem, column);
        out.dgamma[column] += dy[at] * forward.f[at];
        out.dbeta[column] += dy[at];
    }
    match problem.op() {
        Op::Dyt | Op::Derf => pointwise::backward(problem, inputs, &forward, &mut out),
        Op::LayerNorm | Op::RmsNorm => rownorm::backward(problem, &forward, &mut out),
    }
    if let Some(dsum) = inputs.dsum {
        for Place { at, .. } in places(problem) {
            out.dx[at] += dsum[at];
        }
    }
    Ok(out)
}

fn check_tensor(problem: &Problem, argument: Argument, tensor: &[f64]) -> Result<()> {
    let (expected, actual) = (problem.span(), tensor.len());
    if actual < expected || actual > problem.rows() * problem.row_stride() {
        return Err(Error::WrongLength { argument, expected, actual });
    }
    Ok(())
}

fn check_columns(problem: &Problem, argument: Argument, columns: Option<&[f64]>) -> Result<()> {
    match columns.map(<[f64]>::len) {
        Some(actual) if actual != problem.cols() => {
            Err(Error::WrongLength { argument, expected: problem.cols(), actual })
        }
        _ => Ok(()),
    }
}
