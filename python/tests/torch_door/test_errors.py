"""What is wrong is said: which argument, and what was expected."""

import subprocess
import sys

import pytest
import torch

import dyt.torch as D

X, ALPHA, WEIGHT = torch.ones(4, 6), torch.ones(1), torch.ones(6)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: D.dyt(X.double(), ALPHA), "x is float64, expected float32, float16 or bfloat16"),
        (lambda: D.dyt(X.int(), ALPHA), "x is int32"),
        (lambda: D.dyt(X, ALPHA.double()), "alpha is float64"),
        (lambda: D.dyt(X, torch.ones(2)), r"alpha has shape \[2\], expected one value"),
        (lambda: D.derf(X, ALPHA, torch.ones(0)), r"shift has shape \[0\], expected one value"),
        (lambda: D.dyt(X, ALPHA, torch.ones(5)), r"weight has shape \[5\], expected \[6\]"),
        (lambda: D.dyt(X, ALPHA, torch.ones(())), r"weight has shape \[\], expected \[6\]"),
        (lambda: D.dyt(X, ALPHA, torch.ones(3, 4, 6)), r"x has shape \[4, 6\], expected at least 3 dimensions"),
        (lambda: D.dyt(X, ALPHA, WEIGHT, torch.ones(1)), r"bias has shape \[1\], expected \[6\]"),
        (lambda: D.dyt(X, ALPHA, WEIGHT.long()), "weight is int64"),
        (lambda: D.dyt(X[0], ALPHA, channels_last=False), "expected at least 2 dimensions"),
        (lambda: D.dyt(X[None], ALPHA, WEIGHT, channels_last=False), r"weight has shape \[6\], expected \[4\]"),
        (lambda: D.dyt(X[:, :0], ALPHA), "cols is 0"),
        (
            lambda: D.layer_norm(X, 5),
            r"x has shape \[4, 6\], expected its last dimensions to be normalized_shape, \[5\]",
        ),
        (lambda: D.layer_norm(X, ()), "normalized_shape"),
        (lambda: D.layer_norm(X, 6, torch.ones(2, 3)), r"weight has shape \[2, 3\], expected \[6\]"),
        (lambda: D.layer_norm(X, 6, eps=-1.0), "eps is -1"),
        (lambda: D.layer_norm(X[:, :1], 1, unbiased=True), "at least 2 columns"),
        (lambda: D.rms_norm(X, 6, offset=1.0), "offset is added to weight"),
        (lambda: D.dyt(X, ALPHA.to("meta")), "alpha lies on another device than x"),
        (lambda: D.dyt(X.to("meta"), ALPHA), "alpha lies on another device than x"),
        (lambda: D.layer_norm(X, 6, WEIGHT.to("meta")), "weight lies on another device than x"),
        (lambda: D.dyt(X, None), "alpha is no tensor"),
        (lambda: D.dyt([[1.0]], ALPHA), "x is list, expected a tensor"),
        (lambda: D.dyt(X.numpy(), ALPHA), "x is ndarray, expected a tensor"),
        (lambda: D.dyt(X, ALPHA, [1.0]), "weight is list, expected a tensor"),
        (lambda: D.derf(X, ALPHA, ALPHA, None, [1.0]), "bias is list, expected a tensor"),
        (lambda: D.dyt(X[None], ALPHA, [1.0], channels_last=False), "weight"),
        (lambda: D.layer_norm([[1.0]], 1), "x is list, expected a tensor"),
        (lambda: D.layer_norm(X.numpy(), 6), "x is ndarray, expected a tensor"),
        (lambda: D.rms_norm([[1.0]], 1), "x is list, expected a tensor"),
        (lambda: D.rms_norm(X, 6, [1.0]), "weight"),
        (lambda: D.rms_norm(X, 6, [1.0], offset=1.0), "weight is list, expected a tensor"),
    ],
)
@pytest.mark.parametrize("grad", [False, True])
def test_words(call, words, grad):
    with torch.set_grad_enabled(grad), pytest.raises((RuntimeError, TypeError), match=words):
        call()


META = X.to("meta")


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda a, w: D.dyt(META.double(), a), "x is float64, expected float32, float16 or bfloat16"),
        (lambda a, w: D.dyt(META, a.double()), "alpha is float64"),
        (lambda a, w: D.dyt(META, a.expand(2)), r"alpha has shape \[2\], expected one value"),
        (lambda a, w: D.derf(META, a, a[:0]), r"shift has shape \[0\], expected one value"),
        (lambda a, w: D.dyt(META, a, w[:5]), r"weight has shape \[5\], expected \[6\]"),
        (lambda a, w: D.dyt(META, a, w.expand(3, 4, 6)), r"x has shape \[4, 6\], expected at least 3 dimensions"),
        (lambda a, w: D.dyt(META, a, w, w[:1]), r"bias has shape \[1\], expected \[6\]"),
        (lambda a, w: D.dyt(META[0], a, channels_last=False), "expected at least 2 dimensions"),
        (lambda a, w: D.layer_norm(META, 6, w.expand(2, 6)), r"weight has shape \[2, 6\], expected \[6\]"),
        (lambda a, w: D.rms_norm(META, 6, w.long()), "weight is int64"),
    ],
)
@pytest.mark.parametrize("grad", [False, True])
def test_words_without_values(call, words, grad):
    """What meta tensors and traces are refused for is what real ones are."""
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match=words):
        call(ALPHA.to("meta"), WEIGHT.to("meta"))


@pytest.mark.parametrize("name", ["x", "alpha", "shift", "weight", "bias"])
@pytest.mark.parametrize("device", ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def test_a_tensor_without_memory(name, device):
    arguments = {"x": X, "alpha": ALPHA, "shift": ALPHA, "weight": WEIGHT, "bias": WEIGHT}
    arguments = {key: value.to(device, copy=True) for key, value in arguments.items()}
    arguments[name].untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=rf"{name} has shape \[.*\], and no memory is allocated for it"):
        D.derf(**arguments)


def test_a_gradient_without_memory():
    x, dy = X.clone().requires_grad_(), X.clone()
    dy.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"dy has shape \[4, 6\], and no memory"):
        D.dyt(x, ALPHA).backward(dy)


def test_a_system_without_the_ops():
    """The library of another system than Linux has none for torch."""
    code = "import torch; from dyt import _dyt; del _dyt.torch_register; import dyt.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "ImportError: dyt.torch runs on Linux only" in done.stderr


def test_memory_that_torch_does_not_have():
    """torch's own words are there, where it hands them over."""
    from ctypes import CDLL

    x = torch.ones(1).expand(1 << 44, 1)
    said = hasattr(CDLL("libtorch_cpu.so"), "torch_exception_get_what_without_backtrace")
    words = ": .*(alloc|memory)" if said else "$"
    with pytest.raises(RuntimeError, match=r"no memory for a tensor of shape \[17592186044416, 1\]" + words):
        D.dyt(x, ALPHA)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_two_devices():
    with pytest.raises(RuntimeError, match="alpha lies on another device than x"):
        D.dyt(X.cuda(), ALPHA)


def test_an_error_leaves_nothing_behind():
    """References of arguments are given back, and the next call is right."""
    before = WEIGHT._use_count()
    for _ in range(100):
        with pytest.raises(RuntimeError):
            D.dyt(X, ALPHA, WEIGHT, torch.ones(5))
    assert WEIGHT._use_count() == before
    assert torch.equal(D.dyt(X, ALPHA, WEIGHT), torch.tanh(X))


LEAKS = """
import resource, torch, dyt.torch as D

x, weight, alpha = torch.randn(2, 4), torch.ones(4), torch.ones(1)

def calls(n):
    with torch.no_grad():
        for _ in range(n):
            D.derf(x, alpha, alpha, weight, weight)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

first = calls(20_000)
print(calls(400_000) - first)
"""


def test_nothing_leaks():
    """A call with every optional argument leaves as much memory as it found, in a process whose peak is its own."""
    done = subprocess.run([sys.executable, "-c", LEAKS], check=True, capture_output=True, text=True)
    # The smallest boxes of as many calls, for three optional arguments each, would be 37,500 KiB.
    assert int(done.stdout) < 8192
