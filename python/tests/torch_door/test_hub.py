"""The layout of Hugging Face kernels: a layer of a local repository takes the place of a model's forward."""

import pathlib
import platform
import re
import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

import dyt

kernels = pytest.importorskip("kernels")

HUB = pathlib.Path(__file__).parents[2] / "hub.py"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The package as it is installed, as a wheel, laid out."""
    folder = tmp_path_factory.mktemp("hub")
    # The name that maturin gives it.
    tags = (f"{name}_{platform.machine()}" for name in ("manylinux2014", "manylinux_2_17"))
    wheel = folder / f"dyt-{dyt.__version__}-cp310-abi3-{'.'.join(tags)}.whl"
    package = pathlib.Path(dyt.__file__).parent
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(package.parent))
        archive.writestr(f"dyt-{dyt.__version__}.dist-info/METADATA", "")
    subprocess.run([sys.executable, HUB, wheel, folder / "repository"], check=True)
    return folder / "repository"


@kernels.use_kernel_forward_from_hub("DynamicTanh")
class DynamicTanh(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.alpha, self.weight, self.bias = (
            nn.Parameter(v) for v in (torch.full((1,), 0.5), torch.randn(width), torch.randn(width))
        )

    def forward(self, x):
        return torch.tanh(self.alpha * x) * self.weight + self.bias


@kernels.use_kernel_forward_from_hub("RMSNorm")
class LlamaRMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.randn(width)), 1e-5

    def forward(self, hidden_states):
        return (
            self.weight
            * hidden_states
            * torch.rsqrt(hidden_states.square().mean(-1, keepdim=True) + self.variance_epsilon)
        )


def test_kernelize(repository):
    model, x = nn.Sequential(nn.Linear(8, 16), DynamicTanh(16), LlamaRMSNorm(16)), torch.randn(4, 8)
    expected = model(x)
    layer = lambda name: {"cpu": kernels.LocalLayerRepository(repo_path=repository, layer_name=name)}
    mode = kernels.Mode.TRAINING | kernels.Mode.TORCH_COMPILE
    with kernels.use_kernel_mapping({"DynamicTanh": layer("DynamicTanh"), "RMSNorm": layer("RMSNorm")}):
        model = kernels.kernelize(model, mode=mode, device="cpu", use_fallback=False)
    wanted = re.compile(rf"_dyt_(cpu|cu120|cu130)_{dyt.__version__.replace('.', '_')}\.layers")
    assert all(wanted.fullmatch(part.forward.__func__.__module__) for part in model[1:])
    torch.testing.assert_close(model(x), expected)
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    # The kernel is a copy of its own beside the installed package.
    torch.testing.assert_close(dyt.torch.rms_norm(x, 8), nn.functional.rms_norm(x, (8,)))


@pytest.mark.parametrize("backend, version", [("CPU", None), *(("CUDA", v) for v in ("12.6", "12.9", "13.0", "13.2"))])
@pytest.mark.parametrize("torch_version", ["2.9", "2.15"])
def test_every_backend_finds_its_variant(repository, torch_version, backend, version):
    """What `kernels` chooses among the folders; a machine without the library's instructions gets none."""
    from kernels import backends, variants
    from packaging.version import Version

    own = backends.CPU() if version is None else backends.CUDA(version=Version(version))
    found = variants.get_variants_local(repository / "build")
    accepted = lambda machine: {
        decision.variant.variant_str
        for decision in variants._check_variants(found, own, machine, "linux", Version(torch_version), True, None)
        if isinstance(decision, variants.VariantAccepted)
    }
    name = "cpu" if version is None else f"cu{version.split('.')[0]}0"
    assert accepted(platform.machine()) == {f"torch-stable-abi29-{name}-{platform.machine()}-linux"}
    assert accepted("riscv64") == set()


def test_another_wheel_is_refused(tmp_path):
    done = subprocess.run([sys.executable, HUB, "dyt-0.1.0-cp310-abi3-win_amd64.whl", tmp_path], capture_output=True)
    assert done.returncode != 0 and b"is no wheel for Linux" in done.stderr and not any(tmp_path.iterdir())


def test_layers_have_a_forward_alone():
    for name in dyt.layers.__all__:
        own = {key for key, value in vars(getattr(dyt.layers, name)).items() if callable(value)}
        assert own - {"__annotate__", "__annotate_func__"} == {"forward"}, name
