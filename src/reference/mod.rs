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
use crate::layout::Layout;
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
    /// What the problem's gamma_offset is added to, for each column of each group of rows; if absent, the factor is 1.
    pub gamma: Option<&'a [f64]>,
    /// The offset of each column of each group of rows; 0 if absent.
    pub beta: Option<&'a [f64]>,
}

impl<'a> Inputs<'a> {
    /// With alpha 1, shift 0, and without residual, dsum, gamma and beta.
    #[must_use]
    pub const fn new(x: &'a [f64]) -> Self {
        Self { x, residual: None, dsum: None, alpha: 1.0, shift: 0.0, gamma: None, beta: None }
    }

    /// The factor at index `param` of gamma: gamma and its offset as their sum is in f32, or 1.
    fn factor(&self, problem: &Problem, param: usize) -> f64 {
        let Some(gamma) = self.gamma else { return 1.0 };
        let offset = f64::from(problem.gamma_offset());
        if offset == 0.0 { gamma[param] } else { f64::from((gamma[param] + offset) as f32) }
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
        let layout = problem.layout();
        check_tensor(layout, Argument::X, self.x)?;
        self.residual.map_or(Ok(()), |residual| check_tensor(layout, Argument::Residual, residual))?;
        self.dsum.map_or(Ok(()), |dsum| check_tensor(layout, Argument::Dsum, dsum))?;
        check_params(problem, Argument::Gamma, self.gamma)?;
        check_params(problem, Argument::Beta, self.beta)
    }
}

/// The results of a forward. Tensors have the layout of x, but y its own, with zeros in the gaps, and `Problem::span` elements, or
/// `Problem::y_span`.
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
    /// The gradient of gamma, as gamma.
    pub dgamma: Vec<f64>,
    /// The gradient of beta, as beta.
    pub dbeta: Vec<f64>,
    /// dy times the factor: the gradient of what the factor multiplies.
    pub h: Vec<f64>,
    /// DyT, Derf: f'(u). The norms: zeros.
    pub slope: Vec<f64>,
}

/// Where an element lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index in x, residual, sum, dsum and dx.
    pub at: usize,
    /// Its index in y and dy.
    pub y: usize,
    /// Its index in gamma and beta.
    pub param: usize,
    /// Its index in mean and rstd.
    pub statistic: usize,
}

/// Every element of a problem, row by row, or of channels-first data channel by channel.
pub fn places(problem: &Problem) -> impl Iterator<Item = Place> {
    let (rows, cols, inner) = (problem.total_rows(), problem.cols(), problem.inner());
    let place = place(problem);
    (0..rows).flat_map(move |n| (0..cols).flat_map(move |c| (0..inner).map(move |s| place(n, c, s))))
}

/// The elements of the row whose statistics have index `statistic`, in the order of the columns.
pub fn row_places(problem: &Problem, statistic: usize) -> impl Iterator<Item = Place> + Clone {
    let (place, inner) = (place(problem), problem.inner());
    (0..problem.cols()).map(move |c| place(statistic / inner, c, statistic % inner))
}

/// The index in x of each element of that row.
pub fn row(problem: &Problem, statistic: usize) -> impl Iterator<Item = usize> + Clone {
    row_places(problem, statistic).map(|place| place.at)
}

/// The place of column `c` of row `n` at position `s` of `inner`.
fn place(problem: &Problem) -> impl Fn(usize, usize, usize) -> Place + Copy + use<> {
    let (cols, inner) = (problem.cols(), problem.inner());
    let (x, y, sharing) = (problem.layout(), problem.y_layout(), problem.param_rows());
    move |n, c, s| Place {
        at: x.row(n) + c * inner + s,
        y: y.row(n) + c * inner + s,
        param: n / sharing * cols + c,
        statistic: n * inner + s,
    }
}

/// The forward of the problem's op.
///
/// # Errors
/// [`Error::WrongLength`] of `x`, `residual`, `dsum`, `gamma` or `beta`.
pub fn forward(problem: &Problem, inputs: &Inputs<'_>) -> Result<Forward> {
    inputs.check(problem)?;
    let mut out = Forward {
        y: vec![0.0; problem.y_span()],
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
        let scaled = inputs.factor(problem, place.param) * out.f[place.at];
        // Without beta nothing is added: −0 + 0 would be +0.
        out.y[place.y] = inputs.beta.map_or(scaled, |beta| scaled + beta[place.param]);
    }
    Ok(out)
}

/// The backward of the problem's op, with every gradient.
///
/// # Errors
/// As [`forward`], and [`Error::WrongLength`] of `dy`.
pub fn backward(problem: &Problem, inputs: &Inputs<'_>, dy: &[f64]) -> Result<Backward> {
    check_tensor(problem.y_layout(), Argument::Dy, dy)?;
    let forward = forward(problem, inputs)?;
    let mut out = Backward {
        dx: vec![0.0; problem.span()],
        dalpha: 0.0,
        dshift: 0.0,
        dgamma: vec![0.0; problem.params()],
        dbeta: vec![0.0; problem.params()],
        h: vec![0.0; problem.span()],
        slope: vec![0.0; problem.span()],
    };
    for Place { at, y, param, .. } in places(problem) {
        out.h[at] = dy[y] * inputs.factor(problem, param);
        out.dgamma[param] += dy[y] * forward.f[at];
        out.dbeta[param] += dy[y];
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

fn check_tensor(layout: Layout, argument: Argument, tensor: &[f64]) -> Result<()> {
    let (expected, actual) = (layout.span(), tensor.len());
    if actual < expected || actual > layout.closed() {
        return Err(Error::WrongLength { argument, expected, actual });
    }
    Ok(())
}

fn check_params(problem: &Problem, argument: Argument, params: Option<&[f64]>) -> Result<()> {
    match params.map(<[f64]>::len) {
        Some(actual) if actual != problem.params() => {
            Err(Error::WrongLength { argument, expected: problem.params(), actual })
        }
        _ => Ok(()),
    }
}
