"""Tensors for the tests of dyt.torch: on the CPU, and on CUDA where there is a GPU."""

import pytest

torch = pytest.importorskip("torch")

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request):
    return request.param


class Draw:
    """Random tensors, the same ones for the same seed on every device."""

    def __init__(self, rng, device):
        self.rng, self.device = rng, device

    def __call__(self, *shape, dtype=torch.float32, scale=1.0, about=0.0, grad=False):
        values = torch.tensor(about + scale * self.rng.standard_normal(shape))
        return values.to(self.device, dtype).requires_grad_(grad)


@pytest.fixture
def draw(rng, device):
    return Draw(rng, device)
