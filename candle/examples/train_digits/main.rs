//! Trains the same small vision Transformer on hand-written digits with LayerNorm, with DyT and with Derf.
//!
//! ```text
//! cargo run --release -p dyt-candle --example train_digits
//! ```
//!
//! Each norm is trained with every learning rate of one grid and with five seeds; a seed gives each norm the same
//! initial weights, batches and variations. The validation split chooses a learning rate for each norm, and only then is
//! the test split read: once with each of the models chosen. `--quick` is one seed, one rate and few epochs.

mod data;
mod plot;
mod report;
mod train;
mod vit;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use candle_core::{Error, Result, bail};
use clap::Parser;
use dyt_candle::NormKind;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::data::Digits;
use crate::report::Chosen;
use crate::train::{Plan, Run, train};

/// The grid of learning rates, the same for each norm.
const RATES: [f64; 3] = [4e-3, 8e-3, 16e-3];
const SEEDS: u64 = 5;
const EPOCHS: usize = 80;
const QUICK_EPOCHS: usize = 20;

#[derive(Parser)]
#[command(about = "Trains a small vision Transformer with LayerNorm, DyT and Derf")]
struct Options {
    /// One seed, one learning rate and few epochs; no figure unless `--out` names one
    #[arg(long)]
    quick: bool,
    /// Seeds for each norm and rate
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Passes over the training split
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: Option<u64>,
    /// The grid of learning rates
    #[arg(long, value_delimiter = ',')]
    rates: Vec<f64>,
    /// Where the loss curves go [default: docs/figures/train_digits.svg]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The norms by name; the others are compared with the first.
const NORMS: [(&str, NormKind); 3] =
    [("LayerNorm", NormKind::layer_norm()), ("DyT", NormKind::dyt()), ("Derf", NormKind::derf())];

fn main() -> Result<()> {
    run(Options::parse())
}

fn run(options: Options) -> Result<()> {
    let (rates, seeds, epochs) =
        if options.quick { (&RATES[1..2], 1, QUICK_EPOCHS) } else { (&RATES[..], SEEDS, EPOCHS) };
    let rates = if options.rates.is_empty() { rates } else { &options.rates };
    let (seeds, epochs) =
        (options.seeds.unwrap_or(seeds), options.epochs.map_or(epochs, |epochs| epochs as usize));
    let digits = Digits::load(&mut StdRng::seed_from_u64(0))?;
    println!(
        "{} digits for training, {} for validation, {} for the test; {epochs} epochs, {seeds} seeds, rates {rates:?}",
        digits.train.len(),
        digits.validation.len(),
        digits.test.len()
    );
    let begin = Instant::now();
    let mut plans = Vec::new();
    for (_, norm) in NORMS {
        for rate in rates {
            plans.extend((0..seeds).map(|seed| Plan { norm, rate: *rate, seed, epochs }));
        }
    }
    let runs = train_all(&digits, &plans)?;
    let chosen = report::choose(&runs, rates);
    report::test(&digits, &chosen)?;
    let figure = options.out.or_else(|| (!options.quick).then(|| "docs/figures/train_digits.svg".into()));
    if let Some(path) = figure {
        draw(&path, &chosen)?;
        println!("loss curves: {}", path.display());
    }
    println!("{:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Every run, on as many threads as the machine has, each run on one of them.
fn train_all(digits: &Digits, plans: &[Plan]) -> Result<Vec<Run>> {
    let total = plans.iter().map(|plan| plan.epochs as u64).sum();
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} epochs, {eta} left").map_err(Error::wrap)?,
    );
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Run)>> {
        // A pool of one thread: what candle would spread stays in this run.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(Error::wrap)?;
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(plan) = plans.get(i) else { return Ok(done) };
            done.push((i, pool.install(|| train(digits, *plan, || bar.inc(1)))?));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(plans.len());
    let outcomes: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut runs = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(done) => runs.extend(done?),
            Err(_) => bail!("a thread that trained has panicked"),
        }
    }
    bar.finish_and_clear();
    runs.sort_by_key(|(i, _)| *i);
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

/// Writes the loss curves of the runs chosen.
fn draw(path: &Path, chosen: &Chosen<'_>) -> Result<()> {
    let part =
        |runs: &[&Run], part: fn(&Run) -> &Vec<f64>| runs.iter().map(|run| part(run).clone()).collect();
    let curves: Vec<_> = NORMS
        .into_iter()
        .zip(chosen)
        .map(|((name, _), runs)| plot::Curves {
            name,
            train: part(runs, |run| &run.train_loss),
            validation: part(runs, |run| &run.validation_loss),
        })
        .collect();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    plot::draw(path, &curves).map_err(|e| Error::msg(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_goes_from_the_digits_to_the_figure() -> Result<()> {
        let path = std::env::temp_dir().join(format!("train_digits-{}.svg", std::process::id()));
        run(Options {
            quick: true,
            seeds: None,
            epochs: Some(2),
            rates: Vec::new(),
            out: Some(path.clone()),
        })?;
        let figure = std::fs::read_to_string(&path)?;
        std::fs::remove_file(&path)?;
        for text in ["LayerNorm", "DyT", "Derf", "epoch", "cross-entropy", "training", "validation"] {
            assert!(figure.contains(text), "the figure has no '{text}'");
        }
        Ok(())
    }

    #[test]
    fn every_norm_learns_in_a_quick_run() -> Result<()> {
        let digits = Digits::load(&mut StdRng::seed_from_u64(0))?;
        let plans = NORMS.map(|(_, norm)| Plan { norm, rate: RATES[1], seed: 0, epochs: QUICK_EPOCHS });
        for run in train_all(&digits, &plans)? {
            let (first, last) = (run.train_loss[0], run.train_loss[QUICK_EPOCHS - 1]);
            assert!(last < 0.5 * first, "{:?}: loss {first} to {last}", run.plan.norm);
            assert!(run.validation > 0.8, "{:?}: {} of the validation split", run.plan.norm, run.validation);
        }
        Ok(())
    }

    #[test]
    fn a_seed_gives_each_norm_the_same_beginning_and_the_same_run_again() -> Result<()> {
        let digits = Digits::load(&mut StdRng::seed_from_u64(0))?;
        let plan = Plan { norm: NormKind::dyt(), rate: RATES[0], seed: 3, epochs: 1 };
        let runs = train_all(&digits, &[plan, plan])?;
        assert_eq!(runs[0].train_loss, runs[1].train_loss);
        let weights = |norm| -> Result<Vec<f32>> {
            let vars = candle_nn::VarMap::new();
            vit::Vit::new(vit::Config::small(norm), &vars)?;
            vit::initialize(&vars, 3)?;
            let mut named = vit::named(&vars)?;
            named.retain(|(name, _)| name.ends_with("qkv.weight"));
            named[0].1.flatten_all()?.to_vec1()
        };
        assert_eq!(weights(NormKind::layer_norm())?, weights(NormKind::derf())?);
        Ok(())
    }

    #[test]
    fn the_splits_are_apart_and_complete() -> Result<()> {
        let digits = Digits::load(&mut StdRng::seed_from_u64(0))?;
        let mut all = [&digits.train[..], &digits.validation, &digits.test].concat();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..1797));
        Ok(())
    }
}
