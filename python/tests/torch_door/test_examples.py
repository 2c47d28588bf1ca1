"""The examples run as their first lines say."""

import pathlib
import subprocess
import sys

import pytest
import torch

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(name, *options):
    command = [sys.executable, EXAMPLES / name, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="a torch without distributed")
def test_tensor_parallel():
    rows = {line.split()[0]: line.split()[1:3] for line in run("tensor_parallel.py").splitlines()[1:]}
    # Those of the matrices alone: one where each pair of them ends, and two for each in the backward.
    assert rows["DyT"] == rows["Derf"] == ["2", "4"]
    assert int(rows["LayerNorm"][0]) > 2 and int(rows["LayerNorm"][1]) > 4


@pytest.mark.slow
def test_convert_vit():
    pytest.importorskip("timm")
    words = run("convert_vit.py", "--no-compile", "--batch", "1", "--rounds", "1", "--device", "cpu")
    assert "25 norms exchanged" in words and "DyT, dyt" in words
