//! Blocks of rows through a forward that quantises y.

use dyt::float8::{F8E4M3, F8E5M2};
use dyt::{Element, Forward, Quant};
use dyt_conformance::staged;
use indicatif::ProgressBar;

use super::stream::{Job, part};
use crate::error::CliError;
use crate::interrupt;
use crate::tensor::{Sink, Source, allocate};

/// Where what is written goes; the scales of the rows, if they are found.
pub(super) struct Targets<'a> {
    pub(super) y: &'a mut Sink,
    pub(super) scales: Option<&'a mut Sink>,
}

/// From x to y of one byte an element; the sum overwrites the residual in memory.
pub(super) fn forward<T: Element>(
    job: &Job,
    quant: Quant,
    x: &mut Source,
    adds: Option<(&mut Source, &mut Sink)>,
    targets: Targets<'_>,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    match quant {
        Quant::F8E4M3 => typed::<T, F8E4M3>(job, x, adds, targets, bar),
        Quant::F8E5M2 => typed::<T, F8E5M2>(job, x, adds, targets, bar),
        Quant::I8 => typed::<T, i8>(job, x, adds, targets, bar),
    }
}

fn typed<T: Element, Y: Element>(
    job: &Job,
    x: &mut Source,
    mut adds: Option<(&mut Source, &mut Sink)>,
    mut targets: Targets<'_>,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    let row_len = job.layout.row_len();
    let len = job.block_rows.saturating_mul(row_len);
    let (mut buffer, mut sums) = (allocate::<T>(len)?, allocate::<T>(if job.adds { len } else { 0 })?);
    let mut bytes = allocate::<Y>(len)?;
    let mut scales = allocate::<f32>(job.block_rows.saturating_mul(job.layout.inner))?;
    for (rows, params) in job.blocks() {
        interrupt::check()?;
        let (block, y) = (&mut buffer[..rows * row_len], &mut bytes[..rows * row_len]);
        let found = &mut scales[..rows * job.layout.inner];
        x.read(block)?;
        let mut arguments = Forward::new(&*block, &mut *y);
        if let Some((residual, _)) = &mut adds {
            residual.read(&mut sums[..rows * row_len])?;
            arguments = arguments.residual_in_place(&mut sums[..rows * row_len]);
        }
        arguments.alpha = job.op.is_pointwise().then_some((&job.alpha).into());
        arguments.shift = job.op.has_shift().then_some((&job.shift).into());
        arguments.gamma = part(job.gamma.as_ref(), &params);
        arguments.beta = part(job.beta.as_ref(), &params);
        arguments = match &job.scale {
            Some(scale) => arguments.scale(scale),
            None => arguments.scales(&mut *found),
        };
        staged::forward(&job.device, &job.problem(rows)?, arguments)?;
        if let Some((_, sum)) = &mut adds {
            sum.write(&sums[..rows * row_len])?;
        }
        if let Some(sink) = &mut targets.scales {
            sink.write(found)?;
        }
        targets.y.write(y)?;
        bar.inc(size_of_val(block) as u64);
    }
    Ok(())
}
