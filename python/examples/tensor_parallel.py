"""A Transformer block on two processes, its matrices cut in two, with a norm on activations that are cut too.

    python tensor_parallel.py

The block has a second norm inside attention and one inside the feed-forward network, as Magneto and BitNet have. They stand
between a matrix that is cut by columns and one that is cut by rows, where each process has half of the hidden dimension. A
LayerNorm has to gather it; DyT and Derf work on their half. Counts the collectives of a training step for each norm, and
compares the result with that of one process.
"""

import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import dyt.torch

WIDTH, HEADS, PROCESSES = 64, 4, 2
NORMS = {"LayerNorm": dyt.torch.LayerNorm, "DyT": dyt.torch.DynamicTanh, "Derf": dyt.torch.Derf}


class Block(nn.Module):
    """Attention and a feed-forward network, each with a norm in front and one inside."""

    def __init__(self, norm):
        super().__init__()
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.inside_attention, self.inside_mlp = norm(WIDTH), norm(4 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.out(self.inside_attention(attention(self.q(h), self.k(h), self.v(h))))
        return x + self.down(self.inside_mlp(F.gelu(self.up(self.norm2(x)))))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each process has heads of its own."""
    if isinstance(q, DTensor):
        local = attention(q.to_local(), k.to_local(), v.to_local())
        return DTensor.from_local(local, q.device_mesh, q.placements)
    heads = lambda t: t.unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2)
    return F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True).transpose(1, 2).flatten(2)


def cut(block: Block, mesh) -> Block:
    """Cuts the matrices, and the parameters of the norms that stand between them."""
    columns, rows = ColwiseParallel(use_local_output=False), RowwiseParallel()
    parallelize_module(
        block, mesh, {"q": columns, "k": columns, "v": columns, "out": rows, "up": columns, "down": rows}
    )
    for norm in (block.inside_attention, block.inside_mlp):
        for name, parameter in list(norm.named_parameters()):
            placement = Shard(0) if name in ("weight", "bias") else Replicate()
            setattr(norm, name, nn.Parameter(distribute_tensor(parameter.data, mesh, [placement])))
    return block


def step(block: Block, x: Tensor) -> tuple[Tensor, dict[str, Tensor], list[int]]:
    """A forward and a backward: the output, the gradients, and the collectives of each."""
    with CommDebugMode() as forward:
        y = block(x)
    with CommDebugMode() as backward:
        y.square().mean().backward()
    full = lambda t: t.full_tensor() if isinstance(t, DTensor) else t
    gradients = {name: full(parameter.grad) for name, parameter in block.named_parameters()}
    return full(y), gradients, [sum(mode.get_comm_counts().values()) for mode in (forward, backward)]


def work(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES)
    mesh = init_device_mesh("cpu", (PROCESSES,))
    if rank == 0:
        print(f"{'norm':10} {'collectives forward':>20} {'backward':>10} {'difference from one process':>30}")
    for name, norm in NORMS.items():
        torch.manual_seed(0)
        whole = Block(norm)
        x = torch.randn(2, 10, WIDTH)
        parts = Block(norm)
        parts.load_state_dict(whole.state_dict())
        y, gradients, _ = step(whole, x)
        z, others, counts = step(cut(parts, mesh), x)
        differences = [(y - z).abs().max(), *((gradients[key] - others[key]).abs().max() for key in gradients)]
        if rank == 0:
            print(f"{name:10} {counts[0]:>20} {counts[1]:>10} {max(differences).item():>30.1e}")
        assert max(differences) < 1e-4, name
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (os.path.join(folder, "store"),), PROCESSES)
