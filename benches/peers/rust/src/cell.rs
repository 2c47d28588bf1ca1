//! What is measured, and on which values.

use std::collections::BTreeMap;

use dyt::{DType, Op, Problem};
use dyt_conformance::{Random, round_to};
use serde::{Deserialize, Serialize};

/// Cells that share shape, type and op, and so their inputs.
#[derive(Debug, Deserialize)]
pub(crate) struct Group {
    pub(crate) op: String,
    pub(crate) dtype: String,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) passes: Vec<Pass>,
    /// Added to the variance or the mean square.
    pub(crate) eps: f32,
    pub(crate) alpha: f32,
    pub(crate) shift: f32,
    pub(crate) seed: u64,
    /// Norm of the error by norm of the result that still is the same function.
    pub(crate) close: f64,
    /// Seconds that a batch of calls takes, and after which a cell begins no further round.
    pub(crate) batch: f64,
    pub(crate) total: f64,
    /// Rounds of a cell at most.
    pub(crate) rounds: usize,
}

/// What a call computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Pass {
    #[serde(rename = "forward")]
    Forward,
    #[serde(rename = "backward")]
    Backward,
    /// A training step.
    #[serde(rename = "forward+backward")]
    Both,
}

impl Group {
    /// The op, by the name that all comparisons have for it.
    pub(crate) fn op(&self) -> anyhow::Result<Op> {
        Op::ALL
            .into_iter()
            .find(|op| op.name() == self.op)
            .ok_or_else(|| anyhow::anyhow!("no op is called {}", self.op))
    }

    /// The type of x, y, gamma and beta.
    pub(crate) fn dtype(&self) -> anyhow::Result<DType> {
        DType::ALL
            .into_iter()
            .find(|dtype| dtype.name() == self.dtype)
            .ok_or_else(|| anyhow::anyhow!("no dtype is called {}", self.dtype))
    }

    /// The problem of so many of the rows.
    pub(crate) fn problem(&self, rows: usize) -> anyhow::Result<Problem> {
        let problem = Problem::new(self.op()?, rows, self.cols).dtype(self.dtype()?);
        Ok(if self.op()?.is_pointwise() { problem } else { problem.eps(self.eps) }.build()?)
    }
}

/// Random values of about unit size that the type holds exactly, as f32.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) x: Vec<f32>,
    pub(crate) dy: Vec<f32>,
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
}

impl Inputs {
    pub(crate) fn new(group: &Group) -> anyhow::Result<Self> {
        let dtype = group.dtype()?;
        let mut random = Random::new(group.seed);
        let mut normal = |len: usize, center: f64, scale: f64| -> Vec<f32> {
            (0..len).map(|_| round_to(dtype, center + scale * random.normal())).collect()
        };
        let elements = group.rows * group.cols;
        Ok(Self {
            x: normal(elements, 0.0, 1.0),
            dy: normal(elements, 0.0, 1.0),
            gamma: normal(group.cols, 1.0, 0.25),
            beta: normal(group.cols, 0.0, 0.25),
        })
    }
}

/// Results by their names: y, dx, dalpha, dshift, dgamma, dbeta.
pub(crate) type Results = BTreeMap<&'static str, Vec<f32>>;
