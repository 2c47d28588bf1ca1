//! `dyt run`: an op on a tensor in a file, block by block of its rows.

mod args;
mod layout;
mod stream;

pub(crate) use args::RunArgs;

use std::fmt::Write as _;

use dyt::{DType, Device, Element, half};
use indicatif::ProgressBar;

use crate::error::CliError;
use crate::tensor::{Entry, Finished, Format, FormatError, Reference, Shape, Sink, Source, header};
use crate::{interrupt, out};
use args::Scalar;
use layout::Layout;
use stream::{Gradients, Job};

const TEMPLATE: &str = "{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// Runs the op. Every argument and every header has been looked at before the output is begun.
pub(crate) fn run(args: &RunArgs) -> Result<(), CliError> {
    args.check()?;
    let x = Source::open(&args.input()?)?;
    let dy = args.dy.as_ref().map(|reference| open_dy(reference, &x)).transpose()?;
    let layout = Layout::of(x.path(), x.shape(), args.channels_first)?;
    let job = job(args, layout, x.dtype())?;
    interrupt::watch();
    match x.dtype() {
        DType::F32 => execute::<f32>(args, &job, x, dy),
        DType::F16 => execute::<half::f16>(args, &job, x, dy),
        DType::Bf16 => execute::<half::bf16>(args, &job, x, dy),
    }
}

/// dy has to be as x is.
fn open_dy(reference: &Reference, x: &Source) -> Result<Source, CliError> {
    let dy = Source::open(reference)?;
    if (dy.dtype(), dy.shape()) != (x.dtype(), x.shape()) {
        let describe = |source: &Source| (source.dtype(), Shape(source.shape()).to_string());
        return Err(CliError::Gradient { path: dy.path().clone(), dy: describe(&dy), x: describe(x) });
    }
    Ok(dy)
}

/// Reads the parameters, and decides how many rows are in memory at once.
fn job(args: &RunArgs, layout: Layout, dtype: DType) -> Result<Job, CliError> {
    let device = match &args.device {
        Some(name) => Device::open(name)?,
        None => Device::auto()?,
    };
    let scalar = |scalar: &Option<Scalar>| match scalar {
        Some(Scalar::Value(value)) => Ok(*value),
        Some(Scalar::File(reference)) => Source::open(reference)?.read_all(1).map(|values| values[0]),
        None => Ok(0.0),
    };
    let columns = |reference: &Option<Reference>| {
        reference.as_ref().map(|reference| Source::open(reference)?.read_all(layout.cols)).transpose()
    };
    let mut job = Job {
        op: args.op,
        std: args.std.into(),
        eps: args.eps,
        backward: args.dy.is_some(),
        alpha: scalar(&args.alpha)?,
        shift: scalar(&args.shift)?,
        gamma: columns(&args.gamma)?,
        beta: columns(&args.beta)?,
        block_rows: 0,
        device,
        dtype,
        layout,
    };
    job.block_rows = match args.block_rows {
        Some(rows) => layout.block(rows.get() as u64),
        None => job.rows_in(args.memory.0)?,
    };
    job.problem(job.block_rows)?;
    Ok(job)
}

fn execute<T: Element>(args: &RunArgs, job: &Job, mut x: Source, dy: Option<Source>) -> Result<(), CliError> {
    let default_name = if job.backward { "dx" } else { "y" };
    let name = args.output.name.as_deref().unwrap_or(default_name);
    let mut output = begin(&args.output, &[Entry { name, dtype: job.dtype, shape: x.shape() }])?;
    let bar = out::progress(job.layout.bytes(job.dtype), TEMPLATE);
    let Some(mut dy) = dy else {
        stream::forward::<T>(job, &mut x, &mut output, &bar)?;
        return complete(&bar, vec![output]);
    };
    let beside = args.gradients.as_ref().map(|reference| begin_gradients(reference, job)).transpose()?;
    let gradients = stream::backward::<T>(job, &mut x, &mut dy, &mut output, &bar)?;
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
    let finished = sinks.into_iter().map(Sink::finish).collect::<Result<Vec<_>, _>>()?;
    interrupt::check()?;
    bar.finish_and_clear();
    finished.into_iter().try_for_each(Finished::commit)
}

fn begin(reference: &Reference, entries: &[Entry<'_>]) -> Result<Sink, CliError> {
    let malformed = |source| CliError::Malformed { path: reference.path.clone(), source };
    let format = Format::of(&reference.path)?;
    if let (Format::Npy, Some(name)) = (format, &reference.name) {
        return Err(malformed(FormatError::NpyHasNoNames(name.clone())));
    }
    Sink::create(&reference.path, &header(format, entries).map_err(malformed)?)
}

/// The file of the gradients that the job will have, in their order.
fn begin_gradients(reference: &Reference, job: &Job) -> Result<Sink, CliError> {
    let sizes: Vec<_> =
        Gradients::of(job).named().into_iter().map(|(name, values)| (name, [values.len() as u64])).collect();
    let entries: Vec<_> =
        sizes.iter().map(|(name, shape)| Entry { name, dtype: DType::F32, shape }).collect();
    begin(reference, &entries)
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
