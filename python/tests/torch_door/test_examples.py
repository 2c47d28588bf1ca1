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
    """Both columns, of one block. Inductor's compiler of C++ would take a minute for the four models."""
    pytest.importorskip("timm")
    small = ("--batch", "1", "--rounds", "1", "--depth", "1", "--device", "cpu")
    words = run("convert_vit.py", *small, "--backend", "aot_eager")
    assert "3 norms exchanged" in words
    rows = {line[:24].strip(): line[24:].split() for line in words.splitlines()[-4:]}
    assert rows.keys() == {"LayerNorm, torch", "LayerNorm, dyt", "DyT, formula in torch", "DyT, dyt"}
    # Eager and compiled, each with its multiple in brackets.
    assert all(len(row) == 4 and float(row[2]) > 0 for row in rows.values())


@pytest.mark.slow
def test_bench():
    pytest.importorskip("timm")
    words = run("../bench.py", "--quick", "--no-compile", "--seconds", "0.01", "--device", "cpu")
    assert "DynamicTanh" in words and "RMSNorm both ways 64x768 bf16" in words and "3 norms exchanged" in words
