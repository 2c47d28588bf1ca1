"""A ViT of timm with its norms exchanged in one line, and what a training step takes before and after.

    pip install timm torchvision
    python convert_vit.py [--model vit_tiny_patch16_224] [--batch 8] [--device cpu] [--depth N] [--backend inductor | --no-compile]

`use_fused_norms` keeps the model's results: they are compared. `convert_ln_to_dyt` makes a DyT of each LayerNorm: it is timed
beside the same model with the formula in PyTorch's own ops. Times are medians of interleaved steps; no weights are loaded.
python/bench.py times these steps, too.
"""

import argparse
import copy
import functools
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import dyt.torch


class PlainDyT(nn.Module):
    """The reference: DyT in PyTorch's own ops."""

    def __init__(self, fused: dyt.torch.DynamicTanh):
        super().__init__()
        self.alpha, self.weight, self.bias = fused.alpha, fused.weight, fused.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.alpha * x) * self.weight + self.bias


def plain(model: nn.Module) -> nn.Module:
    """The model with each DynamicTanh as the reference has it."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, dyt.torch.DynamicTanh):
                setattr(parent, name, PlainDyT(child))
    return model


def training_step(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return step


def medians(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, taken in turns after one step that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if round_:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def compare(
    name: str, batch: int, device: str, rounds: int, backend: str | None, **arguments: int
) -> dict[str, dict[str, float]]:
    """Milliseconds of a training step of timm's model of that name: for eager and compiled, those of each kind of norm.

    Without a backend of torch.compile nothing is compiled.
    """
    torch.manual_seed(0)
    images = torch.randn(batch, 3, 224, 224, device=device)
    labels = torch.randint(1000, (batch,), device=device)
    original = timm.create_model(name, **arguments).to(device)

    # The line that exchanges the norms.
    fused = dyt.torch.use_fused_norms(copy.deepcopy(original))
    swapped = sum(isinstance(part, dyt.torch.LayerNorm) for part in fused.modules())
    with torch.no_grad():
        difference = (fused.eval()(images) - original.eval()(images)).abs().max().item()
    print(f"{name} on {device}: {swapped} norms exchanged, outputs differ by {difference:.1e} at most")
    assert swapped and difference < 1e-3

    models = {
        "LayerNorm, torch": original,
        "LayerNorm, dyt": fused,
        "DyT, formula in torch": plain(dyt.torch.convert_ln_to_dyt(copy.deepcopy(original))),
        "DyT, dyt": dyt.torch.convert_ln_to_dyt(copy.deepcopy(original)),
    }
    columns = {"eager": lambda model: model}
    if backend is not None:
        columns["compiled"] = functools.partial(torch.compile, backend=backend)
    return {
        column: medians(
            {kind: training_step(wrap(model.train()), images, labels) for kind, model in models.items()}, rounds
        )
        for column, wrap in columns.items()
    }


def show(times: dict[str, dict[str, float]]) -> None:
    """The table, and in brackets multiples of torch's LayerNorm, eager."""
    one = times["eager"]["LayerNorm, torch"]
    print(f"{'':24}" + "".join(f"{column:>18}" for column in times))
    for kind in times["eager"]:
        print(f"{kind:24}" + "".join(f"{column[kind]:11.1f} ({column[kind] / one:.2f})" for column in times.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--depth", type=int, help="number of blocks (default: the model's)")
    parser.add_argument("--backend", default="inductor", help="backend of torch.compile")
    parser.add_argument("--no-compile", dest="backend", action="store_const", const=None)
    options = parser.parse_args()
    arguments = {} if options.depth is None else {"depth": options.depth}
    times = compare(options.model, options.batch, options.device, options.rounds, options.backend, **arguments)
    print(f"\nms a training step, batch {options.batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    show(times)


if __name__ == "__main__":
    main()
