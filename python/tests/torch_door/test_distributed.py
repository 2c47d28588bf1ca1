"""Two processes over gloo: DDP, FSDP2, and the placements and collectives of DTensor."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="a torch without distributed")

HERE = pathlib.Path(__file__).parent
OPS = ["dyt", "derf", "layer_norm", "rms_norm"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the processes saw."""
    folder = tmp_path_factory.mktemp("distributed")
    path = os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = lambda rank: [sys.executable, HERE / "two_processes.py", str(rank), folder / "store", folder / "result"]
    processes = [
        subprocess.Popen(command(rank), env=environment, stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    words = [process.communicate(timeout=600)[1] for process in processes]
    assert not any(process.returncode for process in processes), words
    return json.loads((folder / "result").read_text())


@pytest.mark.parametrize("way", ["DDP", "FSDP2", "FSDP2 in bfloat16"])
def test_gradients_are_those_of_one_process(seen, way):
    assert all(seen[way].values()), seen[way]


@pytest.mark.parametrize("cut", ["batch", "sequence", "hidden", "whole"])
@pytest.mark.parametrize("op", OPS)
def test_dtensor_is_right(seen, op, cut):
    assert seen["DTensor"][f"{op} {cut}"]["right"]


@pytest.mark.parametrize("op", ["dyt", "derf"])
def test_a_cut_hidden_dimension_needs_no_collective(seen, op):
    result = seen["DTensor"][f"{op} hidden"]
    assert (result["forward"], result["backward"]) == (0, 0)
    assert "Shard(dim=2)" in result["y"]
    assert "Partial" in result["gradients"]["alpha"] and "Shard(dim=0)" in result["gradients"]["weight"]


@pytest.mark.parametrize("cut", ["batch", "sequence"])
@pytest.mark.parametrize("op", OPS)
def test_cut_rows_need_no_collective(seen, op, cut):
    result = seen["DTensor"][f"{op} {cut}"]
    assert (result["forward"], result["backward"]) == (0, 0)
    assert "Partial" in result["gradients"]["weight"]


@pytest.mark.parametrize("op", ["layer_norm", "rms_norm"])
def test_norms_gather_a_cut_hidden_dimension(seen, op):
    assert seen["DTensor"][f"{op} hidden"]["forward"] > 0
