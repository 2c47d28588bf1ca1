"""Interleaved rounds and their medians."""

import math
import random
import statistics

# A baseline's time in a round may differ by this part from its median over all rounds; beyond that, something else was
# using the machine. As `dyt bench` has it.
STEADY = 0.15
# Fewer rounds than these make no median.
FEWEST = 3
# Of the order of the turns: the same in every run.
ORDER_SEED = 1


def summary(samples):
    """[median, lower quartile, upper quartile], in the unit of the samples."""
    if not samples:
        raise ValueError("a summary of no samples")
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return [statistics.median(ordered), ordered[quarter], ordered[len(ordered) - 1 - quarter]]


def sample(measures, rounds, enough=None):
    """Calls each of `measures` (name -> function that returns a time) once a round, in an order drawn anew for each, so
    that none always follows the same other. Returns name -> times. Ends early, but not before FEWEST rounds, once
    `enough()` is true."""
    if rounds < 1:
        raise ValueError("at least one round")
    order, draw = list(measures), random.Random(ORDER_SEED)
    samples = {name: [] for name in order}
    for done in range(rounds):
        if enough is not None and done >= FEWEST and enough():
            break
        draw.shuffle(order)
        for name in order:
            samples[name].append(measures[name]())
    return samples


def interleave(measures, rounds):
    """As `sample`; returns name -> summary."""
    return {name: summary(values) for name, values in sample(measures, rounds).items()}


def steady_rounds(baseline):
    """For each round, whether the baseline took its usual time in it; None if too few did: the machine was never
    quiet."""
    if not baseline:
        return None
    usual = statistics.median(baseline)
    kept = [abs(value / usual - 1) <= STEADY for value in baseline]
    return kept if sum(kept) >= FEWEST and 2 * sum(kept) >= len(kept) else None


def calls_for(batch, once, most=1_000_000):
    """Calls that together take about `batch`, if one takes `once`: the clock is then exact enough."""
    return max(1, min(most, math.ceil(batch / max(once, 1e-9))))
