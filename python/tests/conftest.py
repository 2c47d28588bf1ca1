"""What all tests share: fresh random data, whose seed a failure prints."""

import os
import random

import numpy as np
import pytest

SEED = int(os.environ.get("DYT_TEST_SEED", random.SystemRandom().randrange(2**32)))


def pytest_report_header():
    return f"DYT_TEST_SEED={SEED}"


@pytest.fixture
def rng(request):
    """Another generator for each test, the same ones for the same DYT_TEST_SEED."""
    return np.random.default_rng([SEED, *request.node.nodeid.encode()])
