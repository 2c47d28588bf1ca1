"""All contenders on one group of cells, interleaved."""

import gc
import time

import numpy as np

import inputs
import stats

# Seconds: what one batch of calls takes at least, so that the clock is exact enough; and what the rounds of a cell take
# together before no further one is begun.
BATCH = 0.0005
TOTAL = {False: 0.8, True: 0.15}
ROUNDS = {False: 21, True: 7}


def timer(run):
    """A function that gives the nanoseconds of a call: the mean of a batch, after one call that is not timed, as the
    caches hold what the contender before has left there."""

    def batch(calls):
        begin = time.perf_counter_ns()
        for _ in range(calls):
            run()
        return time.perf_counter_ns() - begin

    calls = stats.calls_for(BATCH * 1e9, batch(1))
    calls = stats.calls_for(BATCH * 1e9, batch(calls) / calls)

    def measure():
        if calls > 1:
            run()
        return batch(calls) / calls

    return measure


def _entry(cell, contender, t, wanted):
    """(record, run): run is None where the contender cannot do it or does it wrong, and the record says why."""
    try:
        run, results = contender.prepare(cell, t)
        run()
        run()
        wrong = inputs.difference(cell.dtype, results(), wanted)
    except NotImplementedError as error:
        return {"error": f"cannot: {error}"}, None
    except Exception as error:  # One cell of one contender must not cost the run; the table shows it.
        first = (str(error).splitlines() or [""])[0]
        return {"error": f"{type(error).__name__}: {first[:160]}"}, None
    return ({"error": f"not timed: {wrong}"}, None) if wrong else ({"error": None}, run)


def _cell(cell, contenders, t, results, quick):
    entries, measures = {}, {}
    wanted = inputs.expected(cell.pass_, results)
    for name, contender in contenders.items():
        entries[name], run = _entry(cell, contender, t, wanted)
        if run is not None:
            measures[name] = timer(run)
    copied = inputs.empty(t.x.shape, t.x.dtype)
    measures["copy"] = timer(lambda: np.copyto(copied, t.x))
    begin = time.perf_counter()
    samples = stats.sample(
        measures, ROUNDS[quick], enough=lambda: time.perf_counter() - begin > TOTAL[quick]
    )
    baseline = samples.pop("copy")
    kept = stats.steady_rounds(baseline)
    chosen = [True] * len(baseline) if kept is None else kept

    def of(values):
        return stats.summary([value for value, steady in zip(values, chosen) if steady])

    for name, values in samples.items():
        entries[name]["ns"] = of(values)
    return {
        "op": cell.op, "pass": cell.pass_, "rows": cell.rows, "cols": cell.cols, "dtype": cell.dtype,
        "bytes": cell.bytes, "rounds": len(baseline), "rejected": chosen.count(False), "steady": kept is not None,
        "copy": {"ns": of(baseline)}, "contenders": entries,
    }  # fmt: skip


def group(cells, contenders, seed, quick):
    """The records of cells that share shape, type and op."""
    t = inputs.inputs(cells[0], seed)
    results = inputs.reference(cells[0].op, t)
    found = []
    for cell in cells:
        found.append(_cell(cell, contenders, t, results, quick))
        gc.collect()
    return found
