"""dyt.jax on CUDA, as far as it goes without a GPU: what XLA is handed for one, and the handlers over the driver of `simt/`.

Where JAX has a GPU, all other tests of JAX run on it.
"""

import pytest

jax = pytest.importorskip("jax")

import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax.numpy as jnp
from jax_cases import OPS, case

from dyt import _dyt

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.mark.parametrize("op", OPS)
def test_lowering_for_cuda(rng, op):
    """A program for CUDA, made without one: the same calls, with the workspace of a GPU."""
    made = case(rng, op, (2500, 40))

    def both(dy, *arguments):
        y, pull = jax.vjp(made, *arguments)
        return y, pull(dy)

    text = jax.jit(both).trace(made.values[0], *made.values).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@dyt_forward") == text.count("@dyt_backward") == 1
    words = {
        gpu: _dyt.xla_workspace((made_op(op), "f32", "f32", op == "unbiased", 1e-5, 0.0, 2500, 40, 1, 1, None), gpu)
        for gpu in (False, True)
    }
    assert words[True] != words[False]
    results = re.search(r"@dyt_backward.*-> \((.*)\)", text)[1]
    assert results.endswith(f"tensor<{words[True]}xf32>")


def made_op(op):
    return "layer_norm" if op == "unbiased" else op


def test_handlers_of_cuda_refuse_other_calls(rng):
    """XLA's CPU has no stream, and there may be no driver: an error, not a crash."""
    stages = {
        stage: jax.ffi.pycapsule(at)
        for name, platform, stage, at in _dyt.xla_handlers()
        if (name, platform) == ("dyt_forward", "CUDA")
    }
    assert stages.keys() == {"initialize", "execute"}
    jax.ffi.register_ffi_target("dyt_forward_of_cuda", {"execute": stages["execute"]}, platform="cpu")
    from dyt.jax import _native

    x, spec = jnp.ones((4, 6)), _native.Spec("rms_norm", 1, 0, 1e-5, False, False, False, False)
    call = jax.jit(
        lambda x: jax.ffi.ffi_call("dyt_forward_of_cuda", jax.ShapeDtypeStruct(x.shape, x.dtype))(
            x, **_native._attributes(spec)
        )
    )
    with pytest.raises(Exception, match="dyt: "):
        jax.block_until_ready(call(jax.device_put(x, jax.devices("cpu")[0])))


@pytest.fixture(scope="module")
def driver():
    """The driver of `simt/`: the one that the environment names, or a new one."""
    if made := os.environ.get("DYT_BUILT_DRIVER"):
        return pathlib.Path(made)
    bundle = ROOT / ".ci/bundle"
    if not (bundle.exists() and shutil.which("g++")):
        pytest.skip("the driver without a GPU is built by g++, from the sources of dyt")
    subprocess.run([bundle, "--driver"], check=True)
    return ROOT / "target/bundle/libcuda.so.1"


@pytest.mark.slow
def test_on_the_driver_without_a_gpu(driver):
    """The tests of values, gradients and vmap in a process whose calls all go by the handlers of CUDA."""
    chosen = (
        "values_and_gradients or absent or channels_first or no_rows or each_example or gradient_of_vmap or flax_trains"
    )
    files = [HERE / name for name in ("test_jax.py", "test_jax_vmap.py", "test_jax_modules.py")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "jax_on_host_driver",
        "-p",
        "no:cacheprovider",
        *files,
        "-k",
        chosen,
    ]
    environment = {**os.environ, "DYT_HOST_DRIVER": str(driver), "PYTHONPATH": str(HERE), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = re.search(
        r"host driver: \{'dyt_forward': (\d+), 'dyt_backward': (\d+)\}, streams \['0x5eed'\], others \[\]", done.stdout
    )
    assert summary and int(summary[1]) > 50 and int(summary[2]) > 50, done.stdout
