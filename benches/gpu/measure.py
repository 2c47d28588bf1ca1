"""All contenders on one cell, interleaved."""

import gc

import torch

import data
import stats
import timing


def _entry(cell, contender, sets, clock, expected):
    """(why it is not timed, runs): one of them is None; both are for an op that the contender has not."""
    try:
        prepared = [contender.prepare(cell, t, clock.stream) for t in sets]
        runs = [run for run, _ in prepared]
        for run in runs * 2:
            run()
        clock.stream.synchronize()
        wrong = data.difference(cell, prepared[0][1](), expected)
    except NotImplementedError:
        return None, None
    except Exception as error:  # One cell of one contender must not cost the run; the table shows it.
        return _words(error), None
    return (f"not timed: {wrong}", None) if wrong else (None, runs)


def _words(error):
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:160]}"


def _graphs(ready, clock):
    """(name -> function that replays its graph, name -> why it has none)."""
    replays, without = {}, {}
    for name, runs in ready.items():
        try:
            replays[name] = clock.graph(runs)
        except Exception as error:  # Peers synchronise or allocate in ways that cannot be captured.
            without[name] = f"no graph: {_words(error)}"
            torch.cuda.synchronize()
    return replays, without


def cell(cell_, contenders, clock, rounds, seed):
    """The record of a cell. Of a contender it has the times that `report.TIMES` names, or why there are none; and in
    place of the time of a graph why there is no graph."""
    free, _ = torch.cuda.mem_get_info()
    count = timing.sets_to_rotate(cell_.bytes, clock.l2, free)
    sets = [data.tensors(cell_, seed + i) for i in range(count)]
    expected = data.reference(cell_, sets[0])
    entries, ready = {}, {}
    for name, contender in contenders.items():
        entries[name], runs = _entry(cell_, contender, sets, clock, expected)
        if runs is not None:
            ready[name] = runs
    del expected

    source, copied = sets[0].x, torch.empty_like(sets[0].x)
    host = stats.interleave({n: lambda r=r[0]: clock.host_us(r) for n, r in ready.items()}, rounds) if ready else {}
    on_device = {n: lambda r=r[0], h=host[n][0]: clock.device_us(r, h) for n, r in ready.items()}
    on_device["copy"] = lambda: clock.device_us(lambda: copied.copy_(source), 10)
    device = stats.interleave(on_device, rounds)
    replays, without = _graphs(ready, clock)
    replayed = {**without, **(stats.interleave(replays, rounds) if replays else {})}
    entries.update({name: [device[name], host[name], replayed[name]] for name in ready})
    result = {
        "op": cell_.op, "pass": cell_.pass_, "rows": cell_.rows, "cols": cell_.cols, "dtype": cell_.dtype,
        "sets": count, "copy": device["copy"],
        "contenders": {name: entry for name, entry in entries.items() if entry is not None},
    }  # fmt: skip
    del sets, ready, replays, on_device, source, copied
    gc.collect()
    torch.cuda.empty_cache()
    return result
