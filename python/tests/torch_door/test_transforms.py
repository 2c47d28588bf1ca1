"""torch.compile, torch.export, opcheck, torch.func, autocast, checkpointing, and what is refused."""

import os

import pytest
import torch
from ops import OPS, composed, draw_arguments, names, ours
from torch.func import functional_call, grad, jvp, vmap

import dyt.torch as D
from dyt.torch import _ops

close = lambda ours, theirs: torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "backend, ops",
    [
        *(pytest.param("aot_eager", [op], id=op) for op in OPS),
        # A compiler of C++ takes long: all ops are in one graph.
        pytest.param("inductor", OPS, id="inductor", marks=pytest.mark.slow),
    ],
)
def test_compile_makes_one_graph(draw, backend, ops):
    from torch._dynamo.utils import counters

    def function(*each):
        return [ours(op, *arguments) for op, arguments in zip(ops, each, strict=True)]

    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
    for rows in (3, 5, 9):
        each = [draw_arguments(draw, (rows, 4, 16)) for _ in ops]
        wanted = [getattr(arguments, name) for op, arguments in zip(ops, each) for name in names(op, arguments)]
        dy = [draw(rows, 4, 16) for _ in ops]
        ys, expected = compiled(*each), function(*each)
        assert all(map(torch.equal, ys, expected))
        assert all(map(torch.equal, torch.autograd.grad(ys, wanted, dy), torch.autograd.grad(expected, wanted, dy)))
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("layout", ["rows", "columns", "channels_last"])
def test_compile_knows_the_strides(draw, layout):
    """A view of the result fails where tracing took it for laid out in another way."""
    torch._dynamo.reset()
    x = draw(2, 8, 5, 8)
    x = {
        "rows": x.transpose(0, 2),
        "columns": x.transpose(1, 3),
        "channels_last": x.contiguous(memory_format=torch.channels_last),
    }[layout]
    alpha, weight = draw(1), draw(8)
    last = layout != "channels_last"

    def function(x):
        y = D.dyt(x, alpha, weight, channels_last=last)
        return y, torch.as_strided(y, (y.numel(),), (1,)) * 2

    for one, other in zip(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x), strict=True):
        assert torch.equal(one, other) and one.stride() == other.stride()


def test_compile_under_no_grad(draw):
    torch._dynamo.reset()
    module = D.DynamicTanh(16).to(draw.device)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = draw(3, 16)
    with torch.no_grad():
        assert torch.equal(compiled(x), module(x))


@pytest.mark.parametrize("strict", [False, True])
def test_export(draw, strict):
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 16), D.DynamicTanh(16), D.Derf(16), D.LayerNorm(16), D.RMSNorm(16)
    ).to(draw.device)
    x = draw(2, 16)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},), strict=strict)
    more = draw(7, 16)
    assert torch.equal(program.module()(more), model(more))
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    targets = {str(node.target) for graph in graphs for node in graph.nodes}
    assert f"{_ops.NAMESPACE}.forward.default" in targets


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "queries"])
@pytest.mark.parametrize("form, offset", [(_ops.LAYER_NORM, 0.0), (_ops.UNBIASED, 0.0), (_ops.RMS_NORM, 1.0)])
def test_opcheck_norms(draw, form, offset, layout):
    x, dy = arrange(draw, layout), draw(4, 6, 16)
    own, options = (None, None, draw(16), draw(16)), (1, form, 1e-5, 0, offset)
    check = lambda op, *arguments: torch.library.opcheck(op, arguments)
    check(_ops.forward, x, *own, *options)
    check(_ops.saving, x, *own, None, *options)
    check(_ops.saving, x, *own, draw(4, 6, 16), *options)
    _, _, mean, rstd = _ops.saving(x, *own, None, *options)
    mean = None if form == _ops.RMS_NORM else mean
    for mask in (0, 1, 8, 24, 25):
        check_gradients(dy, x, *own[:3], mean, rstd, None, mask, *options, whole=mask == 25)
    check_gradients(dy, x, *own[:3], mean, rstd, draw(4, 6, 16), 25, *options, whole=False)


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "queries"])
def test_opcheck_pointwise(draw, layout):
    x, dy = arrange(draw, layout), draw(4, 6, 16)
    alpha, shift, weight, bias = draw(1), draw(1), draw(16), draw(16)
    dyt, derf = (1, _ops.DYT), (1, _ops.DERF, 0.0, 0, 0.5)
    check = lambda op, *arguments: torch.library.opcheck(op, arguments)
    check(_ops.forward, x, alpha, None, weight, bias, *dyt)
    check(_ops.forward, x, alpha, shift, None, None, *derf)
    check(_ops.forward, x, alpha, None, draw(6), None, 0, *dyt[1:])
    check(_ops.forward, x, alpha, shift, draw(4, 16), draw(4, 16), 1, _ops.DERF, 0.0, 1)
    check(_ops.saving, x, alpha, shift, weight, bias, draw(4, 6, 16), *derf)
    for mask in (0, 1, 10, 27):
        check_gradients(dy, x, alpha, None, weight, None, None, None, mask, *dyt, whole=mask == 27)
        check_gradients(dy, x, alpha, shift, weight, None, None, draw(4, 6, 16), mask | 4, *derf, whole=mask == 27)


def check_gradients(*arguments, whole):
    """A mask changes which results there are, and their shapes: only for one of them the slow trace is made, too."""
    every = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(_ops.backward, arguments, test_utils=every if whole else every[:3])


def arrange(draw, layout):
    match layout:
        case "contiguous":
            return draw(4, 6, 16)
        case "transposed":
            return draw(6, 4, 16).transpose(0, 1)
        case "queries":  # heads in front of tokens
            return draw(6, 3, 4, 16)[:, 0].transpose(0, 1)
        case _:
            return draw(4, 6, 20)[..., 2:18]


# --- torch.func ---------------------------------------------------------------------------------------------------


def losses(op, wanted, arguments):
    """The loss as a function of the wanted arguments: of our op, and of the composed one."""

    def loss(function):
        return lambda *values: function(op, **{**arguments._asdict(), **dict(zip(wanted, values))}).square().sum()

    return loss(ours), loss(composed)


@pytest.mark.parametrize("op", OPS)
def test_grad(draw, op):
    arguments = draw_arguments(draw, (4, 6, 16), grad=False)
    wanted = names(op, arguments)
    at, values = tuple(range(len(wanted))), [getattr(arguments, name) for name in wanted]
    our, their = losses(op, wanted, arguments)
    close(grad(our, at)(*values), grad(their, at)(*values))


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("op", OPS)
def test_vmap_over_x(draw, op, dim):
    arguments = draw_arguments(draw, (4, 6, 8, 16), grad=False)
    call = lambda function: vmap(lambda x: function(op, *arguments._replace(x=x)), dim, dim)(arguments.x)
    close(call(ours), call(composed))


@pytest.mark.parametrize("op", OPS)
def test_vmap_over_parameters(draw, op):
    """An ensemble: each model has its own parameters, and all see the same x."""
    arguments = draw_arguments(draw, (6, 16), grad=False)
    wanted = [name for name in names(op, arguments) if name != "x"]
    many = [torch.stack([getattr(arguments, name) * factor for factor in (1.0, 0.5, 2.0)]) for name in wanted]
    call = lambda function: vmap(lambda *values: function(op, **{**arguments._asdict(), **dict(zip(wanted, values))}))(
        *many
    )
    close(call(ours), call(composed))


@pytest.mark.parametrize("op", OPS)
def test_gradients_of_each_sample(draw, op):
    arguments = draw_arguments(draw, (5, 6, 16), grad=False)
    wanted = names(op, arguments)
    at = tuple(range(len(wanted)))
    dims = tuple(0 if name == "x" else None for name in wanted)
    values = [getattr(arguments, name) for name in wanted]
    our, their = losses(op, wanted, arguments)
    close(vmap(grad(our, at), dims)(*values), vmap(grad(their, at), dims)(*values))


def test_vmap_of_channels_first(draw):
    x, alpha, weight = draw(3, 2, 6, 5), draw(1), draw(6)
    y = vmap(lambda x: D.dyt(x, alpha, weight, channels_last=False))(x)
    close(y, torch.tanh(alpha * x) * weight[:, None])


def test_functional_call(draw):
    module, x = D.DynamicTanh(16).to(draw.device), draw(3, 16)
    weight = draw(16)
    close(functional_call(module, {"weight": weight}, (x,)), torch.tanh(0.5 * x) * weight)


WITHOUT_PRIVATE_NAMES = """
import torch
from torch.autograd import forward_ad

active = torch._C._are_functorch_transforms_active
del torch._C._are_functorch_transforms_active, forward_ad._current_level
import dyt.torch as D
torch._C._are_functorch_transforms_active = active  # torch itself needs it.

x, alpha, weight = torch.randn(3, 4), torch.ones(1), torch.randn(4, requires_grad=True)
for call in (lambda x, w: D.dyt(x, alpha, w), lambda x, w: D.rms_norm(x, 4, w)):
    y = call(x, weight)
    (expected,) = torch.autograd.grad(y.sum(), weight)
    assert torch.equal(torch.func.grad(lambda w: call(x, w).sum())(weight), expected)
    with torch.no_grad():
        assert torch.equal(call(x, weight), y) and torch.equal(torch.vmap(lambda x: call(x, weight))(x), y)
"""


def test_private_names_of_torch_are_not_needed():
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", WITHOUT_PRIVATE_NAMES], check=True)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_jvp_raises(draw, op):
    arguments = draw_arguments(draw, (4, 16), grad=False)
    with pytest.raises(NotImplementedError, match="jvp|forward-mode|forward mode"):
        jvp(lambda x: ours(op, *arguments._replace(x=x)), (arguments.x,), (arguments.x,))


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("op", OPS)
def test_forward_mode_raises(draw, op, enabled):
    from torch.autograd import forward_ad

    arguments = draw_arguments(draw, (4, 16), grad=False)
    with forward_ad.dual_level(), torch.set_grad_enabled(enabled):
        x = forward_ad.make_dual(arguments.x, torch.ones_like(arguments.x))
        with pytest.raises(NotImplementedError, match="forward-mode|forward mode|jvp"):
            ours(op, *arguments._replace(x=x))


@pytest.mark.parametrize("op", OPS)
def test_double_backward_raises(draw, op):
    arguments = draw_arguments(draw, (4, 16))
    (dx,) = torch.autograd.grad(ours(op, *arguments).square().sum(), arguments.x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward is not implemented"):
        dx.sum().backward()


@pytest.mark.parametrize("op", OPS)
def test_grad_of_grad_raises(draw, op):
    arguments = draw_arguments(draw, (4, 16), grad=False)
    first = grad(lambda x: ours(op, *arguments._replace(x=x)).square().sum())
    with pytest.raises(RuntimeError, match="double backward is not implemented"):
        grad(lambda x: first(x).sum())(arguments.x)


@pytest.mark.parametrize("op", OPS)
def test_a_graph_that_is_kept_gives_the_same_gradients(draw, op):
    arguments = draw_arguments(draw, (4, 16))
    wanted = [getattr(arguments, name) for name in names(op, arguments)]
    plain = torch.autograd.grad(ours(op, *arguments).sum(), wanted)
    kept = torch.autograd.grad(ours(op, *arguments).sum(), wanted, create_graph=True)
    assert all(map(torch.equal, plain, kept))


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [D.DynamicTanh, D.Derf, D.LayerNorm, D.RMSNorm])
def test_autocast(draw, module):
    """y has x's dtype, whatever the autocast; parameters stay in float32."""
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), module(16)).to(draw.device)
    with torch.autocast(draw.device, torch.bfloat16):
        y = model(draw(4, 16))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("module", [D.DynamicTanh, D.Derf, D.LayerNorm, D.RMSNorm])
def test_checkpoint(draw, module, reentrant):
    from torch.utils.checkpoint import checkpoint

    model = module(16).to(draw.device)
    x = draw(3, 16, grad=True)
    model(x).square().sum().backward()
    plain = [p.grad for p in (x, *model.parameters())]
    x.grad = None
    model.zero_grad()
    checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
    assert all(map(torch.equal, plain, [p.grad for p in (x, *model.parameters())]))


def test_an_optimizer_moves_every_parameter(draw):
    model = torch.nn.Sequential(D.DynamicTanh(16), D.Derf(16), D.LayerNorm(16), D.RMSNorm(16)).to(draw.device)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters())
    (model(draw(8, 16)) - 1).square().sum().backward()
    optimizer.step()
    assert not any(map(torch.equal, before, model.parameters()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_data_loader_workers_after_a_large_call():
    """A forked worker may use the kernels, though the threads of its parent's pool are not there."""
    x = torch.randn(400, 1024)
    module = D.DynamicTanh(1024)
    own = torch.get_num_threads()
    # With one thread there would be no pool.
    torch.set_num_threads(2)
    with torch.no_grad():
        expected = module(x)
    torch.set_num_threads(own)

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, at):
            torch.set_num_threads(2)
            with torch.no_grad():
                return module(x)

    loader = torch.utils.data.DataLoader(
        Items(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=300
    )
    for y in loader:
        assert torch.equal(y, expected)
