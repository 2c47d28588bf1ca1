"""Interleaved rounds and their medians."""

import random
import statistics


def summary(samples):
    """Median and quartiles, in the unit of the samples."""
    if not samples:
        raise ValueError("a summary of no samples")
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return {
        "median": statistics.median(ordered),
        "lower": ordered[quarter],
        "upper": ordered[len(ordered) - 1 - quarter],
        "samples": len(ordered),
    }


def interleave(measures, rounds, seed=1):
    """Calls each of `measures` (name -> function that returns a time) once a round, in an order drawn anew for each, so
    that none always follows the same other. Returns name -> summary."""
    if rounds < 1:
        raise ValueError("at least one round")
    order, draw = list(measures), random.Random(seed)
    samples = {name: [] for name in order}
    for _ in range(rounds):
        draw.shuffle(order)
        for name in order:
            samples[name].append(measures[name]())
    return {name: summary(values) for name, values in samples.items()}
