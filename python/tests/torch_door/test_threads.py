"""How many threads a large call takes: torch's number, or that of dyt.set_threads."""

import os
import subprocess
import sys

import pytest

COUNT = """
import os, sys, torch, dyt, dyt.torch
own, limit = map(int, sys.argv[1:])
torch.set_num_threads(own)
dyt.set_threads(limit)
x, alpha = torch.empty(1000, 1000).fill_(0.5), torch.ones(1)
before = len(os.listdir("/proc/self/task"))
with torch.no_grad():
    dyt.torch.dyt(x, alpha)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted on Linux")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
@pytest.mark.parametrize("own, limit, several", [(1, 0, False), (2, 0, True), (1, 2, True), (2, 1, False)])
def test_threads(own, limit, several):
    environment = {**os.environ, "RAYON_NUM_THREADS": "2"}
    command = [sys.executable, "-c", COUNT, str(own), str(limit)]
    made = int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert (made > 0) == several
