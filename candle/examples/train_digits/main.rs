//! Trains the same small vision Transformer on hand-written digits with LayerNorm, with DyT and with Derf.
//!
//! ```text
//! cargo run --release -p dyt-candle --example train_digits
//! ```
//!
//! Each norm is trained with every learning rate of one grid and with five seeds; a seed gives each norm the same
//! initial weights, batches and variations. The validation split chooses a learning rate for each norm, and only then the
//! test split is read, once for each of the five models chosen. `--quick` is one seed, one rate and few epochs.

mod data;
mod plot;
mod train;
mod vit;

use std::path::PathBuf;
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
use crate::train::{Plan, Run, evaluate, train};

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

/// A norm by its name.
type Named = (&'static str, NormKind);

const fn norms() -> [Named; 3] {
    [("LayerNorm", NormKind::layer_norm()), ("DyT", NormKind::dyt()), ("Derf", NormKind::derf())]
}

fn main() -> Result<()> {
    let options = Options::parse();
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
    for (_, norm) in norms() {
        for rate in rates {
            plans.extend((0..seeds).map(|seed| Plan { norm, rate: *rate, seed, epochs }));
        }
    }
    let runs = train_all(&digits, &plans)?;
    let chosen = norms().map(|(_, norm)| choose(&runs, norm, rates));
    let accuracies = report(&digits, &chosen)?;
    compare(&accuracies);
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

/// The runs of one norm with the learning rate that is best on the validation split, by the mean over seeds; of equal
/// ones, the one with the smaller loss.
fn choose<'a>(runs: &'a [Run], norm: NormKind, rates: &[f64]) -> Vec<&'a Run> {
    let of = |rate: f64| -> Vec<&Run> {
        runs.iter().filter(|run| run.plan.norm == norm && run.plan.rate == rate).collect()
    };
    let merit = |runs: &[&Run]| {
        let loss = |run: &&Run| run.validation_loss.last().copied().unwrap_or(f64::INFINITY);
        let losses: f64 = runs.iter().map(loss).sum();
        (runs.iter().map(|run| run.validation).sum::<f64>(), -losses)
    };
    let better = |a: &Vec<&Run>, b: &Vec<&Run>| {
        let (a, b) = (merit(a), merit(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    rates.iter().map(|rate| of(*rate)).max_by(better).unwrap_or_default()
}

/// Reads the test split with the models chosen, and prints how they do.
fn report(digits: &Digits, chosen: &[Vec<&Run>]) -> Result<Vec<Vec<f64>>> {
    println!("{:<10} {:>8} {:>22} {:>22}", "norm", "rate", "validation accuracy", "test accuracy");
    let mut all = Vec::new();
    for ((name, _), runs) in norms().into_iter().zip(chosen) {
        let validation: Vec<f64> = runs.iter().map(|run| run.validation).collect();
        let test: Result<Vec<f64>> =
            runs.iter().map(|run| Ok(evaluate(&run.model, digits, &digits.test)?.1)).collect();
        let test = test?;
        let rate = runs.first().map_or(f64::NAN, |run| run.plan.rate);
        println!("{name:<10} {rate:>8} {:>22} {:>22}", percent(&validation), percent(&test));
        all.push(test);
    }
    Ok(all)
}

/// Prints the differences to the first norm, seed by seed.
fn compare(accuracies: &[Vec<f64>]) {
    let [first, others @ ..] = accuracies else { return };
    for ((name, _), other) in norms().into_iter().skip(1).zip(others) {
        let differences: Vec<f64> = other.iter().zip(first).map(|(a, b)| 100.0 * (a - b)).collect();
        let (mean, deviation) = moments(&differences);
        let error = deviation / (differences.len() as f64).sqrt();
        println!("{name} against LayerNorm: {mean:+.2} points, standard error {error:.2}, seed by seed");
    }
}

/// Mean ± standard deviation, in percent.
fn percent(values: &[f64]) -> String {
    let (mean, deviation) = moments(values);
    format!("{:.2} ± {:.2} %", 100.0 * mean, 100.0 * deviation)
}

/// The mean and the standard deviation of a sample; 0 for a single value.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

fn draw(path: &std::path::Path, chosen: &[Vec<&Run>]) -> Result<()> {
    let part =
        |runs: &[&Run], part: fn(&Run) -> &Vec<f64>| runs.iter().map(|run| part(run).clone()).collect();
    let curves: Vec<_> = norms()
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
    fn every_norm_learns_in_a_quick_run() -> Result<()> {
        let digits = Digits::load(&mut StdRng::seed_from_u64(0))?;
        let plans = norms().map(|(_, norm)| Plan { norm, rate: RATES[1], seed: 0, epochs: QUICK_EPOCHS });
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
