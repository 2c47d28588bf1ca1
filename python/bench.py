#!/usr/bin/env python3
"""dyt.torch beside PyTorch's eager ops, torch.compile and, on a GPU, Liger: the figures of README.md.

    python bench.py [--device cpu] [--threads N] [--quick] [--no-compile] [--overhead]

Times are the least of interleaved rounds, in microseconds, and ratios are taken within the run. `--overhead` times calls on
1 × 16 alone, which are all cost of the call. Where timm is installed, the training step of a ViT is the last table.
"""

import argparse
import itertools
import pathlib
import sys
import time
from collections.abc import Callable

# Beside this file lies the package without its library: the installed one is meant.
sys.path[0] = str(pathlib.Path(__file__).resolve().parent / "examples")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dyt.torch as D

SHAPES = [(64, 768), (4096, 1024), (2048, 4096)]
Call = Callable[..., Tensor]

#: Each op: ours, and the same in PyTorch's ops, as functions of x, alpha, shift, weight and bias.
OPS: dict[str, tuple[Call, Call]] = {
    "DyT": (lambda x, a, s, w, b: D.dyt(x, a, w, b), lambda x, a, s, w, b: torch.tanh(a * x) * w + b),
    "Derf": (lambda x, a, s, w, b: D.derf(x, a, s, w, b), lambda x, a, s, w, b: torch.erf(a * x + s) * w + b),
    "LayerNorm": (
        lambda x, a, s, w, b: D.layer_norm(x, w.shape, w, b),
        lambda x, a, s, w, b: F.layer_norm(x, w.shape, w, b),
    ),
    "RMSNorm": (
        lambda x, a, s, w, b: D.rms_norm(x, w.shape, w, 1e-6),
        lambda x, a, s, w, b: F.rms_norm(x, w.shape, w, 1e-6),
    ),
}


def liger() -> dict[str, Call]:
    """Liger's ops, where it is installed."""
    try:
        from liger_kernel.ops.dyt import LigerDyTFunction
        from liger_kernel.ops.layer_norm import LigerLayerNormFunction
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    except ImportError:
        return {}
    return {
        "DyT": lambda x, a, s, w, b: LigerDyTFunction.apply(x, a, w, b),
        "LayerNorm": lambda x, a, s, w, b: LigerLayerNormFunction.apply(x, w, b, 1e-5),
        "RMSNorm": lambda x, a, s, w, b: LigerRMSNormFunction.apply(x, w, 1e-6),
    }


def least(calls: dict[str, Callable[[], object]], device: str, seconds: float, repeats: int = 1) -> dict[str, float]:
    """The least time of each call in microseconds, taken in turns for so many seconds."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        for _ in range(3):
            call()
    wait()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(repeats):
                call()
            wait()
            best[name] = min(best[name], (time.perf_counter() - begin) / repeats * 1e6)
    return best


def both_ways(call: Call, arguments: list[Tensor], dy: Tensor) -> Callable[[], object]:
    wanted = [t for t in arguments if t.requires_grad]
    return lambda: torch.autograd.grad(call(*arguments), wanted, dy, allow_unused=True)


def without_gradient(call: Call, arguments: list[Tensor]) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            call(*arguments)

    return run


def draw(
    options: argparse.Namespace, rows: int, cols: int, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Arguments of ours, of the others, and dy. torch multiplies tensors of one dtype, so that its scalars are of x's."""
    make = lambda *shape, dtype: torch.randn(shape, device=options.device).to(dtype).requires_grad_()
    x, weight, bias, dy = (
        make(rows, cols, dtype=dtype),
        make(cols, dtype=dtype),
        make(cols, dtype=dtype),
        make(rows, cols, dtype=dtype),
    )
    scalars = [make(1, dtype=torch.float32) for _ in range(2)]
    theirs = [scalar.detach().to(dtype).requires_grad_() for scalar in scalars]
    return [x, *scalars, weight, bias], [x, *theirs, weight, bias], dy.detach()


def grid(options: argparse.Namespace) -> None:
    others = liger() if options.device == "cuda" else {}
    columns = ["eager"] + ([] if options.no_compile else ["compile"]) + (["Liger"] if others else [])
    print(f"{'':34}{'dyt, us':>10}" + "".join(f"{name + ' ÷ dyt':>15}" for name in columns))
    shapes = SHAPES[:1] if options.quick else SHAPES
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    for op, (rows, cols), dtype in itertools.product(OPS, shapes, dtypes):
        ours, eager = OPS[op]
        calls = {"dyt": ours, "eager": eager, "compile": torch.compile(eager), "Liger": others.get(op)}
        arguments, theirs, dy = draw(options, rows, cols, dtypes[dtype])
        present = {
            name: (calls[name], arguments if name == "dyt" else theirs) for name in ["dyt", *columns] if calls[name]
        }
        ways = {
            "forward": {name: without_gradient(*call) for name, call in present.items()},
            "both ways": {name: both_ways(*call, dy) for name, call in present.items()},
        }
        for way, runs in ways.items():
            times = least(runs, options.device, options.seconds)
            ratios = "".join(f"{times[name] / times['dyt']:15.2f}" if name in times else f"{'':15}" for name in columns)
            print(f"{f'{op} {way} {rows}x{cols} {dtype}':34}{times['dyt']:10.1f}{ratios}", flush=True)


def overhead(options: argparse.Namespace) -> None:
    """Calls on 1 × 16."""
    x = torch.randn(1, 16, device=options.device, requires_grad=True)
    dy = torch.ones_like(x)
    parts = {
        "nn.LayerNorm": nn.LayerNorm(16),
        "DynamicTanh": D.DynamicTanh(16),
        "Derf": D.Derf(16),
        "LayerNorm": D.LayerNorm(16),
    }
    modules = {name: part.to(options.device) for name, part in parts.items()}
    m = modules["DynamicTanh"]
    calls = {name: (lambda module=module: module(x)) for name, module in modules.items()}
    calls["the function dyt"] = lambda: D.dyt(x, m.alpha, m.weight, m.bias)
    alpha, weight, bias = m.alpha, m.weight, m.bias
    calls["dyt of tensors at hand"] = lambda: D.dyt(x, alpha, weight, bias)
    with torch.no_grad():
        forward = least(calls, options.device, 4 * options.seconds, 1000)
    backward = least(
        {name: (lambda call=call: call().backward(dy)) for name, call in calls.items()},
        options.device,
        4 * options.seconds,
        300,
    )
    print(f"{'1 x 16 float32, us':24}{'without grad':>14}{'÷ nn.LayerNorm':>16}{'both ways':>12}{'÷ nn.LayerNorm':>16}")
    for name in calls:
        ratios = forward[name] / forward["nn.LayerNorm"], backward[name] / backward["nn.LayerNorm"]
        print(f"{name:24}{forward[name]:14.2f}{ratios[0]:16.2f}{backward[name]:12.2f}{ratios[1]:16.2f}")


def training_step(options: argparse.Namespace) -> None:
    """A ViT as examples/convert_vit.py has it."""
    try:
        import convert_vit
    except ModuleNotFoundError as error:
        print(f"The training step of a ViT is left out: there is no {error.name}.")
        return
    rounds, size = (1, {"depth": 1}) if options.quick else (9, {})
    backend = None if options.no_compile else "inductor"
    times = convert_vit.compare("vit_tiny_patch16_224", 4, options.device, rounds, backend, **size)
    print("ms a training step, batch 4, and multiples of torch's LayerNorm, eager")
    convert_vit.show(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each cell")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--overhead", action="store_true", help="nothing but the cost of a call")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {options.threads} threads"
    print(f"dyt {__import__('dyt').__version__}, torch {torch.__version__}, {name}\n")
    overhead(options)
    if not options.overhead:
        print()
        grid(options)
        print()
        training_step(options)


if __name__ == "__main__":
    main()
