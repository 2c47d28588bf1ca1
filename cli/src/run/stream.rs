//! Blocks of rows through an op: read, computed in place, written.

use core::ops::Range;

use dyt::{Backward, DType, Device, Element, Forward, Op, Pass, Problem, Quant, Std, View};
use dyt_conformance::staged;
use indicatif::ProgressBar;

use super::layout::Layout;
use crate::error::CliError;
use crate::interrupt;
use crate::tensor::{Sink, Source, allocate};

/// What is computed, from what, and how much of it at once.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) device: Device,
    pub(super) op: Op,
    pub(super) std: Std,
    pub(super) eps: Option<f32>,
    pub(super) backward: bool,
    /// Whether there is a residual, or a dsum.
    pub(super) adds: bool,
    pub(super) dtype: DType,
    pub(super) layout: Layout,
    pub(super) block_rows: usize,
    pub(super) alpha: f32,
    pub(super) shift: f32,
    pub(super) gamma: Option<Vec<f32>>,
    pub(super) gamma_offset: f32,
    pub(super) beta: Option<Vec<f32>>,
    /// Groups of rows of which each has a row of gamma and of beta.
    pub(super) groups: usize,
    pub(super) quant: Option<Quant>,
    /// Of a quantised y; found for each row if there is none.
    pub(super) scale: Option<f32>,
}

impl Job {
    /// The problem of a block. Parameters are f32, to which their files were widened without loss.
    pub(super) fn problem(&self, rows: usize) -> dyt::Result<Problem> {
        let builder = Problem::new(self.op, rows, self.layout.cols).inner(self.layout.inner);
        let builder = builder.dtype(self.dtype).param_dtype(DType::F32).std(self.std);
        let builder = builder.gamma_offset(self.gamma_offset);
        let problem = match self.eps {
            Some(eps) => builder.eps(eps).build(),
            None => builder.build(),
        };
        Ok(problem?.with_quant(self.quant))
    }

    /// The blocks of all rows: how many rows, and which values of the parameters.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let cols = self.layout.cols;
        let group_rows = self.layout.rows / (self.groups as u64).max(1);
        let blocks = self.layout.blocks(self.block_rows, group_rows);
        blocks.map(move |(group, rows)| (rows, group * cols..(group + 1) * cols))
    }

    /// The most rows that stay within `allowed` bytes, with parameters, gradients and workspace.
    pub(super) fn rows_in(&self, allowed: u64) -> Result<usize, CliError> {
        let columns = [&self.gamma, &self.beta].into_iter().flatten().count();
        // In the backward, beside each parameter: its gradient of a block in f32 and that of all blocks in f64.
        let each = if self.backward { 4 + 4 + 8 } else { 4 };
        let parameters = (self.layout.cols as u64).saturating_mul(self.groups as u64);
        let parameters = parameters.saturating_mul(columns as u64 * each);
        let tensors = 1 + u64::from(self.backward) + u64::from(self.adds);
        let row_len = self.layout.row_len() as u64;
        let row = row_len.saturating_mul(tensors * self.dtype.size() as u64);
        // A quantised y lies apart from x, and each row has a scale.
        let bytes = row_len.saturating_add(4 * self.layout.inner as u64);
        let row = row.saturating_add(if self.quant.is_some() { bytes } else { 0 });
        let needed = |rows: usize| -> Result<u64, CliError> {
            let workspace = match self.backward {
                true => self.device.workspace_bytes(&self.problem(rows)?, Pass::Backward) as u64,
                false => 0,
            };
            Ok(row.saturating_mul(rows as u64).saturating_add(parameters).saturating_add(workspace))
        };
        let mut rows = self.layout.block(allowed / row.max(1));
        while rows > 1 && needed(rows)? > allowed {
            rows -= rows.div_ceil(8);
        }
        let least = needed(self.layout.block(1))?;
        if rows == 0 && self.layout.rows > 0 || least > allowed {
            return Err(CliError::Memory { needed: least, allowed });
        }
        Ok(rows)
    }
}

/// Gradients of parameters, summed over blocks in f64, so that thousands of blocks cost no accuracy.
#[derive(Debug)]
pub(super) struct Gradients {
    dalpha: Option<f64>,
    dshift: Option<f64>,
    dgamma: Option<Vec<f64>>,
    dbeta: Option<Vec<f64>>,
}

impl Gradients {
    /// Zeros for what the op has, and for the parameters of the job.
    pub(super) fn of(job: &Job) -> Self {
        let zeros = |parameter: &Option<Vec<f32>>| parameter.as_ref().map(|values| vec![0.0; values.len()]);
        Self {
            dalpha: job.op.is_pointwise().then_some(0.0),
            dshift: job.op.has_shift().then_some(0.0),
            dgamma: zeros(&job.gamma),
            dbeta: zeros(&job.beta),
        }
    }

    fn add(&mut self, block: &Block, params: &Range<usize>) {
        for (sum, value) in [(&mut self.dalpha, block.dalpha), (&mut self.dshift, block.dshift)] {
            *sum = sum.map(|sum| sum + f64::from(value));
        }
        for (sums, values) in [(&mut self.dgamma, &block.dgamma), (&mut self.dbeta, &block.dbeta)] {
            let sums = sums.as_mut().map(|sums| &mut sums[params.clone()]);
            for (sum, value) in sums.into_iter().flatten().zip(values) {
                *sum += f64::from(*value);
            }
        }
    }

    /// Those that there are, by name, rounded to f32.
    pub(super) fn named(&self) -> Vec<(&'static str, Vec<f32>)> {
        let round = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
        [
            ("dalpha", self.dalpha.as_ref().map(std::slice::from_ref)),
            ("dshift", self.dshift.as_ref().map(std::slice::from_ref)),
            ("dgamma", self.dgamma.as_deref()),
            ("dbeta", self.dbeta.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, values)| Some((name, round(values?))))
        .collect()
    }
}

/// Gradients of one block, as the library gives them.
#[derive(Debug)]
struct Block {
    dalpha: f32,
    dshift: f32,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
}

/// From x to y, which overwrites x in memory, as the sum overwrites the residual.
pub(super) fn forward<T: Element>(
    job: &Job,
    x: &mut Source,
    mut adds: Option<(&mut Source, &mut Sink)>,
    y: &mut Sink,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    let row_len = job.layout.row_len();
    let len = job.block_rows.saturating_mul(row_len);
    let (mut buffer, mut sums) = (allocate::<T>(len)?, allocate::<T>(if job.adds { len } else { 0 })?);
    for (rows, params) in job.blocks() {
        interrupt::check()?;
        let block = &mut buffer[..rows * row_len];
        x.read(block)?;
        let mut arguments = Forward::in_place(&mut *block);
        if let Some((residual, _)) = &mut adds {
            residual.read(&mut sums[..rows * row_len])?;
            arguments = arguments.residual_in_place(&mut sums[..rows * row_len]);
        }
        arguments.alpha = job.op.is_pointwise().then_some((&job.alpha).into());
        arguments.shift = job.op.has_shift().then_some((&job.shift).into());
        arguments.gamma = part(job.gamma.as_ref(), &params);
        arguments.beta = part(job.beta.as_ref(), &params);
        staged::forward(&job.device, &job.problem(rows)?, arguments)?;
        if let Some((_, sum)) = &mut adds {
            sum.write(&sums[..rows * row_len])?;
        }
        y.write(block)?;
        bar.inc(size_of_val(block) as u64);
    }
    Ok(())
}

/// From x and dy to dx, which overwrites dy in memory, and the gradients of the parameters.
pub(super) fn backward<T: Element>(
    job: &Job,
    (x, dy): (&mut Source, &mut Source),
    mut dsum: Option<&mut Source>,
    dx: &mut Sink,
    bar: &ProgressBar,
) -> Result<Gradients, CliError> {
    let row_len = job.layout.row_len();
    let len = job.block_rows.saturating_mul(row_len);
    let (mut x_buffer, mut buffer) = (allocate::<T>(len)?, allocate::<T>(len)?);
    let mut joins = allocate::<T>(if job.adds { len } else { 0 })?;
    let bytes = job.device.workspace_bytes(&job.problem(job.block_rows)?, Pass::Backward);
    let workspace = || job.device.zeros(DType::F32, bytes.div_ceil(DType::F32.size()));
    // A device with a memory of its own has copies of everything anyway.
    let mut workspace = job.device.level().is_some().then(workspace).transpose()?;
    let mut gradients = Gradients::of(job);
    let columns = |wanted: bool| allocate::<f32>(if wanted { job.layout.cols } else { 0 });
    let (dgamma, dbeta) = (columns(job.gamma.is_some())?, columns(job.beta.is_some())?);
    let mut sums = Block { dalpha: 0.0, dshift: 0.0, dgamma, dbeta };
    for (rows, params) in job.blocks() {
        interrupt::check()?;
        let (x_block, block) = (&mut x_buffer[..rows * row_len], &mut buffer[..rows * row_len]);
        x.read(x_block)?;
        dy.read(block)?;
        let mut arguments = Backward::of(&*x_block).in_place(&mut *block);
        if let Some(dsum) = &mut dsum {
            dsum.read(&mut joins[..rows * row_len])?;
            arguments = arguments.dsum(&joins[..rows * row_len]);
        }
        let arguments = with_parameters(arguments, job, &params, &mut sums);
        let problem = job.problem(rows)?;
        match &mut workspace {
            Some(workspace) => job.device.backward_with(&problem, arguments, workspace)?,
            None => staged::backward(&job.device, &problem, arguments)?,
        }
        gradients.add(&sums, &params);
        dx.write(block)?;
        bar.inc(size_of_val(block) as u64);
    }
    Ok(gradients)
}

/// The values of a parameter that a block takes.
pub(super) fn part<'a>(values: Option<&'a Vec<f32>>, params: &Range<usize>) -> Option<View<'a>> {
    values.map(|values| (&values[params.clone()]).into())
}

fn with_parameters<'a>(
    mut arguments: Backward<'a>,
    job: &'a Job,
    params: &Range<usize>,
    sums: &'a mut Block,
) -> Backward<'a> {
    let (pointwise, shift) = (job.op.is_pointwise(), job.op.has_shift());
    arguments.alpha = pointwise.then_some((&job.alpha).into());
    arguments.shift = shift.then_some((&job.shift).into());
    arguments.gamma = part(job.gamma.as_ref(), params);
    arguments.dalpha = pointwise.then_some((&mut sums.dalpha).into());
    arguments.dshift = shift.then_some((&mut sums.dshift).into());
    arguments.dgamma = job.gamma.is_some().then_some((&mut sums.dgamma).into());
    arguments.dbeta = job.beta.is_some().then_some((&mut sums.dbeta).into());
    arguments
}
