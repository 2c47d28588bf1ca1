//! `dyt run`: an op on a tensor in a file, block by block of its rows.

mod args;
mod layout;
mod quantised;
mod stream;

pub(crate) use args::RunArgs;

use std::fmt::Write as _;

use dyt::{DType, Device, Element, half};
use indicatif::ProgressBar;

use crate::error::CliError;
use crate::tensor::{Entry, Finished, Reference, Shape, Sink, Source};
use crate::{interrupt, out};
use args::Scalar;
use layout::Layout;
use stream::{Gradients, Job};

const TEMPLATE: &str = "{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// Runs the op. Every argument and every header has been looked at before the output is begun.
pub(crate) fn run(args: &RunArgs) -> Result<(), CliError> {
    args.check()?;
    let x = Source::open(&args.input()?)?;
    let like_x =
        |reference: Option<&Reference>| reference.map(|reference| open_like(reference, &x)).transpose();
    let dy = like_x(args.dy.as_ref())?;
    // What is added: to x in the forward, to dx in the backward.
    let added = like_x(args.residual.as_ref().or(args.dsum.as_ref()))?;
    let sources = || [Some(&x), dy.as_ref(), added.as_ref()].into_iter().flatten();
    let mut notes: Vec<_> = sources().filter_map(Source::note).collect();
    let layout = Layout::of(x.path(), x.shape(), args.channels_first)?;
    let mut job = job(args, layout, x.dtype(), &mut notes)?;
    job.block_rows = block_rows(args, &job, &sources().collect::<Vec<_>>())?;
    job.problem(job.block_rows)?;
    interrupt::watch();
    let sources = Sources { x, dy, added };
    match job.dtype {
        // x has no type of a quantised y.
        DType::F32 | DType::Quant(_) => execute::<f32>(args, &job, sources, &notes),
        DType::F16 => execute::<half::f16>(args, &job, sources, &notes),
        DType::Bf16 => execute::<half::bf16>(args, &job, sources, &notes),
    }
}

/// The tensors that are read.
struct Sources {
    x: Source,
    dy: Option<Source>,
    added: Option<Source>,
}

/// A tensor that has to be as x is.
fn open_like(reference: &Reference, x: &Source) -> Result<Source, CliError> {
    let other = Source::open(reference)?;
    if (other.dtype(), other.shape()) != (x.dtype(), x.shape()) {
        let describe = |source: &Source| (source.dtype(), Shape(source.shape()).to_string());
        return Err(CliError::Unlike { path: other.path().clone(), other: describe(&other), x: describe(x) });
    }
    Ok(other)
}

/// The device and the parameters; notes on these are added to `notes`.
fn job(args: &RunArgs, layout: Layout, dtype: DType, notes: &mut Vec<String>) -> Result<Job, CliError> {
    let device = match &args.device {
        Some(name) => Device::open(name)?,
        None => Device::auto()?,
    };
    let mut read = |reference: &Reference, len: &dyn Fn(&[u64]) -> usize| {
        let source = Source::open(reference)?;
        notes.extend(source.note());
        let len = len(source.shape());
        source.read_all(len)
    };
    let mut scalar = |scalar: &Option<Scalar>| match scalar {
        Some(Scalar::Value(value)) => Ok(*value),
        Some(Scalar::File(reference)) => read(reference, &|_| 1).map(|values| values[0]),
        None => Ok(0.0),
    };
    let (alpha, shift) = (scalar(&args.alpha)?, scalar(&args.shift)?);
    let scale = args.scale.is_some().then(|| scalar(&args.scale)).transpose()?;
    let mut columns = |reference: &Option<Reference>| {
        let len = |shape: &[u64]| layout.params(shape);
        reference.as_ref().map(|reference| read(reference, &len)).transpose()
    };
    let (gamma, beta) = (columns(&args.gamma)?, columns(&args.beta)?);
    let groups = [&gamma, &beta].into_iter().flatten().map(|values| values.len() / layout.cols).max();
    let groups = groups.unwrap_or(1);
    // One row of them that is for all groups.
    let of_all = |values: Option<Vec<f32>>| {
        values.map(|values| if values.len() == layout.cols { values.repeat(groups) } else { values })
    };
    let (gamma, beta) = (of_all(gamma), of_all(beta));
    if gamma.iter().chain(&beta).any(|values| values.len() != groups * layout.cols) {
        return Err(CliError::Usage("--gamma and --beta have different numbers of rows".to_owned()));
    }
    Ok(Job {
        op: args.op,
        std: args.std.into(),
        eps: args.eps,
        backward: args.dy.is_some(),
        adds: args.residual.is_some() || args.dsum.is_some(),
        alpha,
        shift,
        gamma,
        gamma_offset: args.gamma_offset,
        beta,
        groups,
        quant: args.quantise,
        scale,
        block_rows: 0,
        device,
        dtype,
        layout,
    })
}

/// How many rows are in memory at once, beside tensors that have to be there as a whole.
fn block_rows(args: &RunArgs, job: &Job, sources: &[&Source]) -> Result<usize, CliError> {
    if let Some(rows) = args.block_rows {
        return Ok(job.layout.block(rows.get() as u64));
    }
    let allowed = args.memory.0;
    let held = sources.iter().map(|source| source.held()).fold(0, u64::saturating_add);
    let rows = job.rows_in(allowed.saturating_sub(held));
    match (rows, sources.iter().find(|source| source.held() > 0)) {
        (Err(CliError::Memory { needed, .. }), Some(source)) => {
            let (path, needed) = (source.path().clone(), needed.saturating_add(held));
            Err(CliError::FortranMemory { path, needed, allowed })
        }
        (rows, _) => rows,
    }
}

fn execute<T: Element>(
    args: &RunArgs,
    job: &Job,
    Sources { mut x, dy, mut added }: Sources,
    notes: &[String],
) -> Result<(), CliError> {
    let bar = out::progress(job.layout.bytes(job.dtype), TEMPLATE);
    let beside = args.gradients.as_ref().map(|reference| begin_gradients(reference, job, args.force));
    let beside = beside.transpose()?;
    let shape = x.shape().to_vec();
    let written = |reference: &Reference, name, dtype, shape: &[u64]| {
        begin(reference, Entry { name, dtype, shape }, args.force, &bar)
    };
    let dtype = job.quant.map_or(job.dtype, DType::Quant);
    let mut output = written(&args.output, if job.backward { "dx" } else { "y" }, dtype, &shape)?;
    let sum = |reference| written(reference, "sum", job.dtype, &shape);
    let mut sum = args.sum.as_ref().map(sum).transpose()?;
    let scales = |reference| written(reference, "scales", DType::F32, &of_rows(&shape, args.channels_first));
    let mut scales = args.scales.as_ref().map(scales).transpose()?;
    notes.iter().for_each(|note| out::note(note));
    let Some(mut dy) = dy else {
        let adds = added.as_mut().zip(sum.as_mut());
        match job.quant {
            Some(quant) => {
                let targets = quantised::Targets { y: &mut output, scales: scales.as_mut() };
                quantised::forward::<T>(job, quant, &mut x, adds, targets, &bar)?;
            }
            None => stream::forward::<T>(job, &mut x, adds, &mut output, &bar)?,
        }
        return complete(&bar, sum.into_iter().chain(scales).chain([output]).collect());
    };
    let gradients = stream::backward::<T>(job, (&mut x, &mut dy), added.as_mut(), &mut output, &bar)?;
    match beside {
        Some(mut beside) => {
            gradients.named().iter().try_for_each(|(_, values)| beside.write(values))?;
            complete(&bar, vec![beside, output])
        }
        None => {
            complete(&bar, vec![output])?;
            out::print(&gradient_lines(&gradients))
        }
    }
}

/// The files have their names once all of them are whole.
fn complete(bar: &ProgressBar, sinks: Vec<Sink>) -> Result<(), CliError> {
    let finish = |mut sink: Sink| {
        sink.append_rest(bar)?;
        sink.finish()
    };
    let finished = sinks.into_iter().map(finish).collect::<Result<Vec<_>, _>>()?;
    interrupt::check()?;
    bar.finish_and_clear();
    finished.into_iter().try_for_each(Finished::commit)
}

/// A tensor with a name goes into the file that there is; without, the file is the tensor.
fn begin(reference: &Reference, entry: Entry<'_>, force: bool, bar: &ProgressBar) -> Result<Sink, CliError> {
    let path = &reference.path;
    match &reference.name {
        Some(name) => Sink::amend(path, &Entry { name, ..entry }, bar),
        None => Sink::tensors(path, &[entry], force),
    }
}

/// The shape of what each row has one of: that of x without the columns.
fn of_rows(shape: &[u64], channels_first: bool) -> Vec<u64> {
    let columns = if channels_first { 1 } else { shape.len().saturating_sub(1) };
    shape.iter().enumerate().filter(|(i, _)| *i != columns).map(|(_, size)| *size).collect()
}

/// The file of the gradients that the job will have, in their order.
fn begin_gradients(reference: &Reference, job: &Job, force: bool) -> Result<Sink, CliError> {
    let sizes: Vec<_> =
        Gradients::of(job).named().into_iter().map(|(name, values)| (name, [values.len() as u64])).collect();
    let entries: Vec<_> =
        sizes.iter().map(|(name, shape)| Entry { name, dtype: DType::F32, shape }).collect();
    Sink::tensors(&reference.path, &entries, force)
}

/// One line for each gradient: its name, and its values in the fewest digits that give the same f32.
fn gradient_lines(gradients: &Gradients) -> String {
    let mut text = String::new();
    for (name, values) in gradients.named() {
        text.push_str(name);
        for value in values {
            let _ = write!(text, " {value}");
        }
        text.push('\n');
    }
    text
}
