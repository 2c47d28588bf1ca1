"""All contenders on one cell, interleaved."""

import gc

import torch

import data
import stats
import timing


def _entry(cell, contender, sets, clock, expected):
    """(record, runs): runs is None where the contender cannot do it or does it wrong, and the record says why."""
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
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}, None
    return ({"error": f"not timed: {wrong}"}, None) if wrong else ({"error": None}, runs)


def _graphs(ready, entries, clock):
    replays = {}
    for name, runs in ready.items():
        try:
            replays[name] = clock.graph(runs)
        except Exception as error:  # Peers synchronise or allocate in ways that cannot be captured.
            entries[name]["no_graph"] = f"{type(error).__name__}: {error}"
            if name == "dyt":
                entries[name]["error"] = "cannot be captured in a graph"
            torch.cuda.synchronize()
    return replays


def cell(cell_, contenders, clock, rounds, seed):
    """The record of a cell."""
    free, _ = torch.cuda.mem_get_info()
    count = timing.sets_to_rotate(cell_.bytes, clock.l2, free)
    sets = [data.tensors(cell_, seed + i) for i in range(count)]
    expected = data.reference(cell_, sets[0])
    entries, ready = {}, {}
    for name, contender in contenders.items():
        entry, runs = _entry(cell_, contender, sets, clock, expected)
        if entry is not None:
            entries[name] = entry
        if runs is not None:
            ready[name] = runs
    del expected

    source, copied = sets[0].x, torch.empty_like(sets[0].x)
    host = stats.interleave({n: lambda r=r[0]: clock.host_us(r) for n, r in ready.items()}, rounds) if ready else {}
    on_device = {n: lambda r=r[0], h=host[n]["median"]: clock.device_us(r, h) for n, r in ready.items()}
    on_device["copy"] = lambda: clock.device_us(lambda: copied.copy_(source), 10)
    device = stats.interleave(on_device, rounds)
    replays = _graphs(ready, entries, clock)
    replayed = stats.interleave(replays, rounds) if replays else {}
    for name in ready:
        entries[name].update(device_us=device[name], host_us=host[name], graph_us=replayed.get(name))
    result = {
        "op": cell_.op, "pass": cell_.pass_, "rows": cell_.rows, "cols": cell_.cols, "dtype": cell_.dtype,
        "bytes": cell_.bytes, "sets": count, "copy": device["copy"], "copy_bytes": 2 * cell_.tensor_bytes,
        "contenders": entries,
    }  # fmt: skip
    del sets, ready, replays, on_device, source, copied
    gc.collect()
    torch.cuda.empty_cache()
    return result
