//! Calls by address from Python, on the CPU: what `dyt.numpy` stands on.

use dyt::{DType, Op, Problem, Quant, Std};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call::{BackwardAt, ForwardAt, Memory};
use crate::devices::{cpu, exception};

/// What is computed, as Python says it: (op, dtype, param_dtype, unbiased, eps, offset, rows, cols, inner, groups, quant). Each
/// of `groups` has parameters of its own, as many neighbouring rows as the others; `quant` names the dtype of a quantised y.
pub(crate) type Description =
    (String, String, String, bool, Option<f32>, f32, usize, usize, usize, usize, Option<String>);

/// The element of `all` that has the name.
fn named<T: Copy>(all: &[T], name_of: impl Fn(T) -> &'static str, name: &str) -> PyResult<T> {
    let found = all.iter().copied().find(|&one| name_of(one) == name);
    found.ok_or_else(|| PyValueError::new_err(format!("dyt: no {name:?}")))
}

pub(crate) fn problem(description: Description) -> PyResult<Problem> {
    let (op, dtype, param, unbiased, eps, offset, rows, cols, inner, groups, quant) = description;
    let op = named(&Op::ALL, Op::name, &op)?;
    let (dtype, param) = (named(&DType::ALL, DType::name, &dtype)?, named(&DType::ALL, DType::name, &param)?);
    let std = if unbiased { Std::Unbiased } else { Std::Biased };
    let problem = Problem::new(op, rows, cols).dtype(dtype).param_dtype(param).inner(inner).std(std);
    let mut problem = problem.gamma_offset(offset);
    if groups > 1 {
        problem = problem.param_rows(rows / groups);
    }
    if let Some(quant) = quant {
        problem = problem.quant(named(&Quant::ALL, Quant::name, &quant)?);
    }
    let problem = match eps {
        Some(eps) => problem.eps(eps),
        None => problem,
    };
    problem.build().map_err(exception)
}

/// Runs a forward at (x, residual, alpha, shift, gamma, beta, y, sum, scale, scales); 0 is absent.
///
/// The caller, `dyt/numpy.py`, has checked that each address holds as many elements as the description says.
#[pyfunction]
fn forward(py: Python<'_>, description: Description, at: [usize; 10]) -> PyResult<()> {
    let problem = problem(description)?;
    let [x, residual, alpha, shift, gamma, beta, y, sum, scale, scales] = at;
    let at =
        ForwardAt { x, residual, alpha, shift, gamma, beta, y, sum, scale, scales, ..ForwardAt::default() };
    // Arrays without elements may have no address, which would be absence.
    if problem.elements() == 0 {
        return Ok(());
    }
    let device = cpu().map_err(exception)?;
    // SAFETY: the caller holds the arrays, and has compared their lengths with the description.
    py.detach(|| device.forward(&problem, unsafe { at.arguments(&problem, Memory::Host) })).map_err(exception)
}

/// Runs a backward at (dy, x, dsum, alpha, shift, gamma, dx, dalpha, dshift, dgamma, dbeta); 0 is absent.
///
/// As [`forward`].
#[pyfunction]
fn backward(py: Python<'_>, description: Description, at: [usize; 11]) -> PyResult<()> {
    let problem = problem(description)?;
    let [dy, x, dsum, alpha, shift, gamma, dx, dalpha, dshift, dgamma, dbeta] = at;
    let at = BackwardAt {
        dy,
        x,
        dsum,
        alpha,
        shift,
        gamma,
        dx,
        dalpha,
        dshift,
        dgamma,
        dbeta,
        ..BackwardAt::default()
    };
    let device = cpu().map_err(exception)?;
    // SAFETY: as in `forward`.
    py.detach(|| device.backward(&problem, unsafe { at.arguments(&problem, Memory::Host) }))
        .map_err(exception)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(forward, module)?)?;
    module.add_function(wrap_pyfunction!(backward, module)?)
}
