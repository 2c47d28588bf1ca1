"""The package without any framework."""

import subprocess
import sys

import pytest

import dyt


def test_import_needs_no_framework():
    code = "import sys, dyt; dyt.devices(); print(*({'torch', 'jax', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""


def test_devices():
    devices = {device.name: device for device in dyt.devices()}
    assert devices["cpu:portable"].available
    assert any(name.startswith("cuda") for name in devices)
    assert all(device.description for device in devices.values())


def test_version():
    from importlib.metadata import version

    assert dyt.__version__ == version("dyt")


def test_licences():
    from importlib.metadata import files

    assert {"LICENSE-APACHE", "LICENSE-MIT"} <= {file.name for file in files("dyt")}


def test_set_threads():
    np = pytest.importorskip("numpy")
    x = np.linspace(-4, 4, 600_000, dtype=np.float32).reshape(600, 1000)
    try:
        dyt.set_threads(1)
        one = dyt.numpy.dyt(x, 0.5)
        dyt.set_threads(2)
        assert np.array_equal(one, dyt.numpy.dyt(x, 0.5))
    finally:
        dyt.set_threads(0)
    with pytest.raises(OverflowError):
        dyt.set_threads(-1)


def test_names():
    assert set(dir(dyt)) >= {"numpy", "torch", "devices", "set_threads"}
    with pytest.raises(AttributeError, match="nothing"):
        getattr(dyt, "nothing")  # noqa: B009
