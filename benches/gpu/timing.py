"""Times of one call on the device, in a replayed graph and on the host, all in microseconds."""

import time

import torch

# Calls in one captured graph, and host calls between two looks at the clock.
GRAPH_CALLS = 20
HOST_CALLS = 20
# Clock cycles of the GPU for each microsecond, rounded up: the delay may be too long, and not too short.
CYCLES_PER_US = 2500


class Clock:
    """Times calls on one stream."""

    def __init__(self, stream):
        self.stream = stream
        l2 = getattr(torch.cuda.get_device_properties(stream.device), "L2_cache_size", 0) or 64 << 20
        self.l2 = l2
        self._other = torch.ones(3 * l2 // 4, device="cuda", dtype=torch.float32)
        self._sum = torch.empty((), device="cuda", dtype=torch.float32)

    def flush(self):
        """Fills the L2 with lines that nothing is going to need. Reads, as written lines would be written back while
        the next call is being timed."""
        torch.sum(self._other, dim=0, out=self._sum)

    def device_us(self, run, host_us):
        """One call with a cold L2, from event to event. The GPU is kept busy until the host has enqueued all of it, so
        that this is the time of the GPU alone; `host_us` is the host's."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush()
        torch.cuda._sleep(int((50 + 3 * host_us) * CYCLES_PER_US))
        begin.record(self.stream)
        run()
        end.record(self.stream)
        end.synchronize()
        return begin.elapsed_time(end) * 1e3

    def host_us(self, run):
        """The host's time for a call: until it returns, not until the GPU is done."""
        self.stream.synchronize()
        # The GPU must not hold the host up once its queue is full.
        began = time.perf_counter_ns()
        for _ in range(HOST_CALLS):
            run()
        took = time.perf_counter_ns() - began
        self.stream.synchronize()
        return took / HOST_CALLS / 1e3

    def graph(self, runs):
        """Captures calls that go through the sets of buffers in turn; returns a function that replays them and gives the
        time of one call."""
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured, stream=self.stream):
            for i in range(GRAPH_CALLS):
                runs[i % len(runs)]()
        captured.replay()
        self.stream.synchronize()

        def replay():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(self.stream)
            captured.replay()
            end.record(self.stream)
            end.synchronize()
            return begin.elapsed_time(end) * 1e3 / GRAPH_CALLS

        return replay


def sets_to_rotate(cell_bytes, l2, free, most=16):
    """How many sets of buffers make a loop miss the L2, as far as memory and `most` allow. A loop over less than three
    times the L2 finds a part of its data there. Autograd keeps about three times a cell's bytes for each contender."""
    wanted = -(-3 * l2 // max(1, cell_bytes))
    fitting = free // (2 * 20 * max(1, cell_bytes))
    return max(1, min(wanted, most, fitting))
