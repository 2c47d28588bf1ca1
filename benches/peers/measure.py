"""All contenders on one group of cells, interleaved."""

import gc
import os
import time

import numpy as np

import cpu_grid
import inputs
import session
import stats


def timer(run, threads=1):
    """A function that gives the nanoseconds of a call: the mean of a batch, after one call that is not timed, as the
    caches hold what the contender before has left there; on several threads after a rest, besides."""

    def batch(calls):
        begin = time.perf_counter_ns()
        for _ in range(calls):
            run()
        return time.perf_counter_ns() - begin

    calls = stats.calls_for(cpu_grid.BATCH * 1e9, batch(1))
    calls = stats.calls_for(cpu_grid.BATCH * 1e9, batch(calls) / calls)

    def measure():
        if threads > 1:
            time.sleep(cpu_grid.REST)
        if calls > 1:
            run()
        return batch(calls) / calls

    return measure


def _prepared(cell, contender, t, wanted):
    """(why it is not timed, run): run is None where the contender cannot do it or does it wrong."""
    try:
        run, results = contender.prepare(cell, t)
        run()
        run()
        wrong = inputs.difference(cell.dtype, results(), wanted)
    except NotImplementedError as error:
        return f"cannot: {error}", None
    except Exception as error:  # One cell of one contender must not cost the run; the table shows it.
        first = (str(error).splitlines() or [""])[0]
        return f"{type(error).__name__}: {first[:160]}", None
    return (f"not timed: {wrong}", None) if wrong else (None, run)


def _cell(cell, contenders, t, results, quick):
    errors, measures, threads = {}, {}, len(os.sched_getaffinity(0))
    wanted = inputs.expected(cell.pass_, results)
    for name, contender in contenders.items():
        errors[name], run = _prepared(cell, contender, t, wanted)
        if run is not None:
            measures[name] = timer(run, threads)
    copied = inputs.empty(t.x.shape, t.x.dtype)
    measures["copy"] = timer(lambda: np.copyto(copied, t.x), threads)
    begin, total = time.perf_counter(), cpu_grid.TOTAL[quick]
    samples = stats.sample(measures, cpu_grid.ROUNDS[quick], enough=lambda: time.perf_counter() - begin > total)
    return session.cell_record(cell, samples.pop("copy"), errors, samples)


def group(cells, contenders, seed, quick):
    """The records of cells that share shape, type and op."""
    t = inputs.inputs(cells[0], seed)
    results = inputs.reference(cells[0].op, t)
    found = []
    for cell in cells:
        found.append(_cell(cell, contenders, t, results, quick))
        gc.collect()
    return found
