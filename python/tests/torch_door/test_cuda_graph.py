"""A step that a CUDA graph has captured: on a GPU, or by a build with the feature `simt` on the driver without one."""

import ctypes
from contextlib import contextmanager

import pytest
import torch
from ops import OPS, SIMT, check, draw_arguments, names, ours

from dyt import _dyt

pytestmark = pytest.mark.skipif(not SIMT and not torch.cuda.is_available(), reason="no GPU")


@contextmanager
def captured_by_torch():
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        yield graph.replay


@contextmanager
def captured_by_the_driver():
    """On a stream of `simt/driver`, which takes nothing but launches into a graph."""
    driver = ctypes.CDLL("libcuda.so.1")
    address = ctypes.c_void_p

    def call(name, *arguments):
        assert getattr(driver, name)(*arguments) == 0, name

    context, stream, graph, runnable = address(), address(), address(), address()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    call("cuCtxSetCurrent", context)
    call("cuStreamCreate", ctypes.byref(stream), 0)
    call("cuStreamBeginCapture_v2", stream, 0)
    _dyt.torch_host_stream(stream.value)
    try:
        yield lambda: call("cuGraphLaunch", runnable, stream)
    finally:
        _dyt.torch_host_stream(0)
        call("cuStreamEndCapture", stream, ctypes.byref(graph))
    call("cuGraphInstantiateWithFlags", ctypes.byref(runnable), graph, ctypes.c_ulonglong(0))


@pytest.mark.parametrize("shape", [(3, 5), (70, 129), (2, 3, 4100)], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_a_captured_step(draw, op, shape):
    """Forward and backward, replayed on other values than those that were captured."""
    if draw.device == "cpu" and not SIMT:
        pytest.skip("the kernels of the CPU are not captured")
    arguments, dy = draw_arguments(draw, shape), draw(*shape)
    wanted = [getattr(arguments, name) for name in names(op, arguments)]

    def step():
        y = ours(op, *arguments)
        # What the forward saved is a part of the graph.
        return y, torch.autograd.grad(y, wanted, dy, retain_graph=True)

    if SIMT:
        step()
        capture = captured_by_the_driver
    else:
        # The first call loads the kernels, and cannot be captured. It runs on another stream, as torch's capture does.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        stream.synchronize()
        capture = captured_by_torch
    with capture() as replay:
        y, gradients = step()
    with torch.no_grad():
        arguments.x.copy_(draw(*shape, scale=2.0))
        dy.copy_(draw(*shape))
    replay()
    check(op, arguments, y, gradients, dy)
