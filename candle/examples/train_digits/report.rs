//! Which runs count, and what is said of them.

use std::fmt::{Display, Formatter};

use candle_core::Result;

use crate::NORMS;
use crate::data::Digits;
use crate::train::{Run, evaluate};

/// The runs of each norm, one a seed, with the learning rate that was chosen for it.
pub(crate) type Chosen<'a> = [Vec<&'a Run>; NORMS.len()];

/// Prints how each norm does on the validation split with each rate, and chooses the best rate by the mean over seeds;
/// of equal ones, the one with the smaller loss.
pub(crate) fn choose<'a>(runs: &'a [Run], rates: &[f64]) -> Chosen<'a> {
    println!("\naccuracy on the validation split, by learning rate");
    println!("{:<10} {}", "norm", rates.iter().map(|rate| format!("{rate:>18}")).collect::<String>());
    NORMS.map(|(name, norm)| {
        let of = |rate: f64| runs.iter().filter(move |run| run.plan.norm == norm && run.plan.rate == rate);
        let groups: Vec<Vec<&Run>> = rates.iter().map(|rate| of(*rate).collect()).collect();
        let accuracies = groups.iter().map(|runs| format!("{:>18}", percent(&validation(runs))));
        println!("{name:<10} {}", accuracies.collect::<String>());
        let merit = |runs: &[&Run]| {
            let losses = runs.iter().filter_map(|run| run.validation_loss.last());
            (validation(runs).iter().sum::<f64>(), -losses.sum::<f64>())
        };
        let better = |a: &Vec<&Run>, b: &Vec<&Run>| {
            let (a, b) = (merit(a), merit(b));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        };
        groups.into_iter().max_by(better).unwrap_or_default()
    })
}

fn validation(runs: &[&Run]) -> Vec<f64> {
    runs.iter().map(|run| run.validation).collect()
}

/// Reads the test split, once with each of the models chosen; prints how they do, and how each norm compares with the
/// first, seed by seed.
pub(crate) fn test(digits: &Digits, chosen: &Chosen<'_>) -> Result<()> {
    println!("\naccuracy on the test split, with the rate chosen");
    println!("{:<10} {:>18}{:>18}", "norm", "rate", "test");
    let mut accuracies = Vec::new();
    for ((name, _), runs) in NORMS.into_iter().zip(chosen) {
        let of = runs.iter().map(|run| Ok(evaluate(&run.model, digits, &digits.test)?.1));
        let of = of.collect::<Result<Vec<f64>>>()?;
        let rate = runs.first().map_or(f64::NAN, |run| run.plan.rate);
        println!("{name:<10} {rate:>18}{:>18}", percent(&of));
        accuracies.push(of);
    }
    println!();
    let ([(first, _), others @ ..], [base, rest @ ..]) = (&NORMS[..], &accuracies[..]) else {
        return Ok(());
    };
    for ((name, _), of) in others.iter().zip(rest) {
        println!("{name} − {first}: {}", Difference::new(of, base));
    }
    Ok(())
}

/// Mean ± standard deviation, in percent.
fn percent(values: &[f64]) -> String {
    let (mean, deviation) = moments(values);
    format!("{:.2} ± {:.2} %", 100.0 * mean, 100.0 * deviation)
}

/// The mean and the standard deviation of a sample; the latter 0 for a single value.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// How the accuracies of one norm differ from those of another with the same seeds, in percentage points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Difference {
    mean: f64,
    /// A single seed has none.
    standard_error: Option<f64>,
}

impl Difference {
    fn new(of: &[f64], base: &[f64]) -> Self {
        let differences: Vec<f64> = of.iter().zip(base).map(|(a, b)| 100.0 * (a - b)).collect();
        let (mean, deviation) = moments(&differences);
        let count = differences.len();
        let standard_error = (count > 1).then(|| deviation / (count as f64).sqrt());
        Self { mean, standard_error }
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+.2} points, ", self.mean)?;
        match self.standard_error {
            None => f.write_str("of one seed, which has no standard error"),
            Some(error) if self.mean < -error => {
                write!(f, "standard error {error:.2}: worse by more than one standard error")
            }
            Some(error) if self.mean > error => {
                write!(f, "standard error {error:.2}: better by more than one standard error")
            }
            Some(error) => write!(f, "standard error {error:.2}: within one standard error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_taken_seed_by_seed() {
        // −2, 0 and −1 points: a deviation of 1 about −1.
        let worse = Difference::new(&[0.96, 0.97, 0.97], &[0.98, 0.97, 0.98]);
        assert!((worse.mean + 1.0).abs() < 1e-9);
        assert!(worse.standard_error.is_some_and(|error| (error - 1.0 / 3.0_f64.sqrt()).abs() < 1e-9));
        assert_eq!(Difference::new(&[0.9], &[0.8]).standard_error, None);
    }

    #[test]
    fn the_verdict_names_each_side_of_one_standard_error() {
        let said = |mean| Difference { mean, standard_error: Some(0.5) }.to_string();
        assert!(said(-0.51).ends_with("worse by more than one standard error"));
        assert!(said(-0.5).ends_with(": within one standard error"));
        assert!(said(0.5).ends_with(": within one standard error"));
        assert!(said(0.51).ends_with("better by more than one standard error"));
    }
}
