"""One of two processes of test_distributed.py: `two_processes.py RANK STORE RESULT`. Writes what it saw as JSON."""

import json
import sys

import torch
import torch.distributed as dist
from ops import composed, draw_arguments, names, ours
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

import dyt.torch as D

WIDTH = 16
OPS = ["dyt", "derf", "layer_norm", "rms_norm"]


def model():
    torch.manual_seed(1)
    parts = [
        nn.Linear(8, WIDTH),
        D.DynamicTanh(WIDTH),
        D.Derf(WIDTH),
        D.LayerNorm(WIDTH),
        D.RMSNorm(WIDTH),
        nn.Linear(WIDTH, 4),
    ]
    return nn.Sequential(*parts)


def loss(module, x):
    return module(x).float().square().mean()


def gradients(module):
    full = lambda gradient: gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return {name: full(parameter.grad) for name, parameter in module.named_parameters()}


def same(one, other):
    """Whether each differs by no more than 1e-5 of the largest gradient of its layer.

    alpha's and shift's are sums over all elements, whose terms cancel: what rounding takes from them is in proportion to
    the terms.
    """
    layer = lambda name: name.split(".")[0]
    size = lambda name: max(value.float().norm() for key, value in other.items() if layer(key) == layer(name))
    error = lambda name: (one[name].float() - other[name].float()).norm() / size(name)
    return {name: bool(error(name) <= 1e-5) for name in other}


def data_parallel(rank):
    torch.manual_seed(0)
    x = torch.randn(6, 8)
    mine = x[3 * rank : 3 * rank + 3]
    whole = model()
    loss(whole, x).backward()
    expected = gradients(whole)
    seen = {}

    replicated = DistributedDataParallel(model())
    loss(replicated, mine).backward()
    seen["DDP"] = same(gradients(replicated.module), expected)

    sharded = model()
    for layer in sharded:
        fully_shard(layer)
    fully_shard(sharded)
    loss(sharded, mine).backward()
    seen["FSDP2"] = same(gradients(sharded), expected)

    half = model()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in half:
        fully_shard(layer, mp_policy=policy)
    fully_shard(half, mp_policy=policy)
    loss(half, mine.bfloat16()).backward()
    seen["FSDP2 in bfloat16"] = same(gradients(half), in_bfloat16(x[:3], x[3:]))
    return seen


def in_bfloat16(*batches):
    """The mean of the gradients of each batch, by one process."""
    module = model().bfloat16()
    parts = [torch.autograd.grad(loss(module, x.bfloat16()), list(module.parameters())) for x in batches]
    means = [torch.stack([one.float() for one in part]).mean(0) for part in zip(*parts)]
    return dict(zip([name for name, _ in module.named_parameters()], means))


def placements(op, cut, mesh):
    """What came of a call whose x is cut so, beside the same call in one process."""
    torch.manual_seed(2)
    draw = lambda *shape, dtype, scale=1.0, about=0.0, grad=False: (
        about + scale * torch.randn(shape, dtype=dtype)
    ).requires_grad_(grad)
    arguments = draw_arguments(
        lambda *shape, dtype=torch.float32, **rest: draw(*shape, dtype=dtype, **rest), (4, 6, WIDTH)
    )
    dy = torch.randn(4, 6, WIDTH)
    columns = cut == Shard(2)
    where = {"x": cut, "weight": Shard(0) if columns else Replicate(), "bias": Shard(0) if columns else Replicate()}
    spread = lambda name, tensor: distribute_tensor(
        tensor.detach(), mesh, [where.get(name, Replicate())]
    ).requires_grad_()
    apart = type(arguments)(*(spread(name, tensor) for name, tensor in arguments._asdict().items()))
    with CommDebugMode() as forward:
        y = ours(op, *apart)
    wanted = names(op, arguments)
    spread_dy = distribute_tensor(dy, mesh, [cut])
    with CommDebugMode() as backward:
        found = torch.autograd.grad(y, [getattr(apart, name) for name in wanted], spread_dy)
    z = composed(op, *arguments)
    expected = torch.autograd.grad(z, [getattr(arguments, name) for name in wanted], dy)
    return {
        "right": all(
            torch.allclose(a.full_tensor(), b, atol=1e-4) for a, b in zip((y, *found), (z, *expected), strict=True)
        ),
        "y": str(y.placements),
        "gradients": {name: str(gradient.placements) for name, gradient in zip(wanted, found)},
        "forward": sum(forward.get_comm_counts().values()),
        "backward": sum(backward.get_comm_counts().values()),
    }


def main(rank, store, result):
    rank = int(rank)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    seen = data_parallel(rank)
    cuts = {"batch": Shard(0), "sequence": Shard(1), "hidden": Shard(2), "whole": Replicate()}
    seen["DTensor"] = {f"{op} {name}": placements(op, cut, mesh) for op in OPS for name, cut in cuts.items()}
    if rank == 0:
        with open(result, "w") as file:
            json.dump(seen, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
