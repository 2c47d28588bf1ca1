//! How samples are taken and summed up. Nothing here knows what is timed, so that it is tested without a clock.

use std::time::Duration;

use dyt_conformance::Random;

/// How much measuring one cell is worth.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Calls are repeated until a batch takes about this long: the clock is then exact enough.
    pub batch: Duration,
    /// Rounds that are always run.
    pub least_rounds: usize,
    /// Rounds that are enough.
    pub most_rounds: usize,
    /// Measured time after which no further round is begun.
    pub total: Duration,
}

/// Nanoseconds of a call: one value for each contender and round.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    by_contender: Vec<Vec<f64>>,
}

/// The values of the rounds that were kept, in short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle value.
    pub median: f64,
    /// A quarter of the values lies below.
    pub lower: f64,
    /// A quarter of the values lies above.
    pub upper: f64,
}

/// A baseline's time in a round may differ by this part from its median over all rounds; beyond that, something else
/// was using the machine.
const STEADY: f64 = 0.15;
/// Fewer rounds than these make no median.
pub const FEWEST: usize = 3;
/// Calls of one batch.
const MOST_CALLS: f64 = 1e6;
/// Of the order of the turns: the same in every run.
const ORDER_SEED: u64 = 1;

/// Times every contender once in every round, so that a disturbance hits all of them alike. `time` runs a contender
/// so many times and tells how long it took. Each round has an order of its own, drawn at random: what a contender
/// finds in the caches, and how warm the one before has left the processor, differs from round to round. A call so
/// long that it is not repeated has no other remedy.
///
/// Once the calls together have taken `cap`, no other is begun, and the round that this cuts off is dropped. `None`
/// where fewer rounds than make a median were whole by then.
///
/// # Errors
/// What `time` returns.
pub fn interleave<E>(
    contenders: usize,
    budget: &Budget,
    cap: Duration,
    time: impl FnMut(usize, u32) -> Result<Duration, E>,
) -> Result<Option<Samples>, E> {
    let mut timer = Timer { time, spent: Duration::ZERO, cap };
    let Some(calls) = timer.calibrate(contenders, budget.batch)? else { return Ok(None) };
    let begin = timer.spent;
    let mut by_contender = vec![Vec::new(); contenders];
    let (mut order, mut random) = ((0..contenders).collect::<Vec<_>>(), Random::new(ORDER_SEED));
    for round in 0..budget.most_rounds {
        if round >= budget.least_rounds && timer.spent - begin >= budget.total {
            break;
        }
        shuffle(&mut order, &mut random);
        let Some(values) = timer.round(&order, &calls)? else { break };
        for (contender, value) in values {
            by_contender[contender].push(value);
        }
    }
    let samples = Samples { by_contender };
    Ok((samples.rounds() >= FEWEST).then_some(samples))
}

/// Runs contenders until `cap` is spent; from then on everything is `None`.
struct Timer<F> {
    time: F,
    spent: Duration,
    cap: Duration,
}

impl<E, F: FnMut(usize, u32) -> Result<Duration, E>> Timer<F> {
    fn time(&mut self, contender: usize, calls: u32) -> Result<Option<Duration>, E> {
        if self.spent >= self.cap {
            return Ok(None);
        }
        let elapsed = (self.time)(contender, calls)?;
        self.spent += elapsed;
        Ok(Some(elapsed))
    }

    /// The calls of a batch of each contender.
    fn calibrate(&mut self, contenders: usize, batch: Duration) -> Result<Option<Vec<u32>>, E> {
        let mut all = Vec::new();
        for contender in 0..contenders {
            // The first call is warm-up; the second tells the order of magnitude, and the third is exact enough.
            self.time(contender, 1)?;
            let Some(once) = self.time(contender, 1)? else { return Ok(None) };
            let calls = calls_for(batch, once);
            let Some(several) = self.time(contender, calls)? else { return Ok(None) };
            all.push(calls_for(batch, several / calls));
        }
        Ok(Some(all))
    }

    /// The contenders in this order, each with the nanoseconds of a call.
    fn round(&mut self, order: &[usize], calls: &[u32]) -> Result<Option<Vec<(usize, f64)>>, E> {
        let mut values = Vec::new();
        for &contender in order {
            let calls = calls[contender];
            if calls > 1 {
                // The caches hold what the one before has left there.
                self.time(contender, 1)?;
            }
            let Some(elapsed) = self.time(contender, calls)? else { return Ok(None) };
            values.push((contender, elapsed.as_secs_f64() * 1e9 / f64::from(calls)));
        }
        Ok(Some(values))
    }
}

/// Every order is as likely as any other (Fisher and Yates).
fn shuffle(order: &mut [usize], random: &mut Random) {
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last + 1));
    }
}

/// Calls that together take about `batch`.
fn calls_for(batch: Duration, call: Duration) -> u32 {
    let calls = batch.as_secs_f64() / call.as_secs_f64().max(1e-9);
    calls.ceil().clamp(1.0, MOST_CALLS) as u32
}

impl Samples {
    /// One value for each round.
    #[must_use]
    pub fn of(&self, contender: usize) -> &[f64] {
        &self.by_contender[contender]
    }

    /// Rounds of each contender.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.by_contender.first().map_or(0, Vec::len)
    }

    /// The values of a contender in the rounds that `kept` names.
    #[must_use]
    pub fn summary(&self, contender: usize, kept: &[bool]) -> Summary {
        let rounds = self.of(contender).iter().zip(kept);
        let mut values: Vec<f64> = rounds.filter(|(_, kept)| **kept).map(|(value, _)| *value).collect();
        values.sort_by(f64::total_cmp);
        Summary {
            median: quantile(&values, 0.5),
            lower: quantile(&values, 0.25),
            upper: quantile(&values, 0.75),
        }
    }
}

/// The rounds in which a baseline took its usual time. `None` where too few are left: the machine was never quiet.
#[must_use]
pub fn steady_rounds(baseline: &[f64]) -> Option<Vec<bool>> {
    let usual = median(baseline);
    let kept: Vec<bool> = baseline.iter().map(|value| (value / usual - 1.0).abs() <= STEADY).collect();
    let count = kept.iter().filter(|kept| **kept).count();
    (count >= FEWEST && 2 * count >= baseline.len()).then_some(kept)
}

/// The middle value, or the mean of the two; NaN if there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// The value below which the part `q` of sorted values lies, interpolated.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = q * last as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (place - place.floor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const BUDGET: Budget = Budget {
        batch: Duration::from_micros(100),
        least_rounds: 3,
        most_rounds: 8,
        total: Duration::from_millis(1),
    };

    fn whole(samples: Result<Option<Samples>, Infallible>) -> Samples {
        let Ok(samples) = samples;
        samples.expect("the time was enough")
    }

    #[test]
    fn medians_and_quartiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
        let samples = Samples { by_contender: vec![vec![5.0, 1.0, 4.0, 2.0, 3.0, 99.0]] };
        let kept = [true, true, true, true, true, false];
        assert_eq!(samples.summary(0, &kept), Summary { median: 3.0, lower: 2.0, upper: 4.0 });
    }

    #[test]
    fn rounds_with_a_slow_baseline_are_rejected() {
        let kept = steady_rounds(&[100.0, 103.0, 140.0, 98.0, 60.0]);
        assert_eq!(kept, Some(vec![true, true, false, true, false]));
    }

    #[test]
    fn a_machine_that_is_never_quiet_is_recognized() {
        assert_eq!(steady_rounds(&[100.0, 150.0, 200.0, 250.0, 300.0]), None);
        assert_eq!(steady_rounds(&[100.0, 100.0]), None);
        assert_eq!(steady_rounds(&[]), None);
    }

    #[test]
    fn every_contender_has_a_turn_in_every_round() {
        let mut turns = Vec::new();
        let ten_microseconds = |contender, calls| {
            turns.push((contender, calls));
            Ok::<_, Infallible>(Duration::from_micros(10) * calls)
        };
        let samples = whole(interleave(3, &BUDGET, Duration::MAX, ten_microseconds));
        // A round takes 3 × (10 + 100) microseconds: after four of them the millisecond is spent.
        assert_eq!(samples.rounds(), 4);
        for contender in 0..3 {
            assert_eq!(samples.of(contender), [10_000.0; 4]);
        }
        let timed: Vec<usize> = turns.iter().skip(9).filter(|t| t.1 == 10).map(|t| t.0).collect();
        for round in timed.chunks(3) {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
        }
    }

    #[test]
    fn every_contender_follows_every_other_equally_often() {
        let (mut order, mut random) = ((0..12).collect::<Vec<_>>(), Random::new(ORDER_SEED));
        let mut follows = [[0; 12]; 12];
        let mut begins = [0; 12];
        for _ in 0..1200 {
            shuffle(&mut order, &mut random);
            begins[order[0]] += 1;
            for pair in order.windows(2) {
                follows[pair[0]][pair[1]] += 1;
            }
        }
        // Both are expected 100 times; a rotation would have 0 or 1100.
        for before in 0..12 {
            assert!((60..=140).contains(&begins[before]), "{begins:?}");
            for after in (0..12).filter(|after| *after != before) {
                assert!((60..=140).contains(&follows[before][after]), "{before} {after} {follows:?}");
            }
            assert_eq!(follows[before][before], 0);
        }
    }

    #[test]
    fn long_calls_are_not_repeated_and_the_least_rounds_are_run() {
        let mut count = 0;
        let samples = whole(interleave(2, &BUDGET, Duration::MAX, |_, calls| {
            count += calls;
            Ok(Duration::from_millis(5) * calls)
        }));
        assert_eq!((samples.rounds(), count), (3, 2 * 3 + 2 * 3));
    }

    #[test]
    fn short_calls_end_with_the_most_rounds() {
        let samples = whole(interleave(1, &BUDGET, Duration::MAX, |_, _| Ok(Duration::ZERO)));
        assert_eq!(samples.rounds(), 8);
    }

    #[test]
    fn no_call_is_begun_after_the_cap() {
        // Two contenders of 5 ms: calibration takes 30 ms, and each round 10.
        for (cap, rounds, calls) in
            [(0, None, 0), (8, None, 2), (29, None, 6), (59, Some(3), 12), (55, None, 11)]
        {
            let (mut count, budget) = (0, Budget { least_rounds: 8, ..BUDGET });
            let Ok(samples) = interleave(2, &budget, Duration::from_millis(cap), |_, calls| {
                count += calls;
                Ok::<_, Infallible>(Duration::from_millis(5) * calls)
            });
            assert_eq!((samples.map(|samples| samples.rounds()), count), (rounds, calls), "{cap}");
        }
    }

    #[test]
    fn a_round_that_is_cut_off_is_dropped() {
        let budget = Budget { least_rounds: 8, ..BUDGET };
        let cap = Duration::from_millis(62);
        let samples = whole(interleave(2, &budget, cap, |_, calls| Ok(Duration::from_millis(5) * calls)));
        assert_eq!((samples.of(0).len(), samples.of(1).len()), (3, 3));
    }

    #[test]
    fn an_error_ends_it() {
        assert_eq!(interleave(1, &BUDGET, Duration::MAX, |_, _| Err("refused")), Err("refused"));
    }
}
