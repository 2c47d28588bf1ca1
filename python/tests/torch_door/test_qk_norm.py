"""Queries and keys of a packed QKV, read where they lie, and rows of wider tensors in general."""

import pytest
import torch
from ops import OPS, check, draw_arguments, names, ours
from torch.func import grad, vmap
from torch.profiler import ProfilerActivity, profile

import dyt.torch as D

NORMS = [D.DynamicTanh, D.Derf, D.LayerNorm, D.RMSNorm]


def copies(function):
    """The copies that a call makes, and its result."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        result = function()
    return sum(event.count for event in seen.key_averages() if event.key == "aten::copy_"), result


def draw_norms(draw, norm, dim):
    pair = [norm(dim).to(draw.device) for _ in range(2)]
    with torch.no_grad():
        for own in pair:
            own.weight += 0.1 * draw(dim)
    return pair


@pytest.mark.parametrize("heads, kv_heads, dim", [(4, None, 16), (6, 2, 33), (1, 1, 8), (8, 1, 64)])
@pytest.mark.parametrize("norm", NORMS)
def test_equals_the_norms_of_copies(draw, dtype, norm, heads, kv_heads, dim):
    """Values and gradients: those of q and k made contiguous; the same bits but for sums over rows."""
    own = kv_heads or heads
    qkv = draw(2, 5, (heads + 2 * own) * dim, dtype=dtype, grad=True)
    pair = draw_norms(draw, norm, dim)
    results = D.qk_norm(qkv, *pair, heads, kv_heads)
    parts = qkv.unflatten(-1, (-1, dim)).split((heads, own, own), -2)
    expected = pair[0](parts[0].contiguous()), pair[1](parts[1].contiguous()), parts[2]
    assert all(map(torch.equal, results, expected))
    wanted = [qkv, *pair[0].parameters(), *pair[1].parameters()]
    dys = [draw(*part.shape, dtype=dtype) for part in parts]
    gradients = torch.autograd.grad(results, wanted, dys)
    expected = torch.autograd.grad(expected, wanted, dys)
    assert torch.equal(gradients[0], expected[0])
    # The terms of dalpha and dshift, alpha being 0.5, and those of a column.
    terms = 2 * (gradients[0].double().abs() * (1 + qkv.double().abs()) ** 2).sum().item()
    columns = 3 * max(dy.double().abs().flatten(0, -2).sum(0).max().item() for dy in dys[:2])
    for one, other in zip(gradients[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6 * (terms if one.shape == (1,) else columns))


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_is_copied(norm):
    pair = norm(64), norm(64)
    qkv = torch.randn(2, 5, 3 * 4 * 64, requires_grad=True)
    number, (q, k, v) = copies(lambda: D.qk_norm(qkv, *pair, 4))
    assert number == 0 and v._is_view()
    dys = [torch.randn_like(part) for part in (q, k)]
    number, _ = copies(lambda: torch.autograd.grad((q, k), list(pair[0].parameters()), dys, allow_unused=True))
    assert number == 0
    # With heads in front of tokens, as scaled_dot_product_attention has them.
    number, y = copies(lambda: pair[0](qkv.view(2, 5, 3, 4, 64)[:, :, 0].transpose(1, 2)))
    assert number == 0 and y.shape == (2, 4, 5, 64) and y.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("view", ["queries", "heads in front", "a slice of columns", "every other token", "far apart"])
@pytest.mark.parametrize("op", OPS)
def test_views(draw, dtype, op, view):
    plain = lambda *shape: draw(*shape, dtype=dtype, scale=2.0)
    x = {
        "queries": lambda: plain(3, 5, 3, 2, 24)[:, :, 1],
        "heads in front": lambda: plain(3, 5, 3, 2, 24)[:, :, 2].transpose(1, 2),
        "a slice of columns": lambda: plain(3, 5, 2, 31)[..., 5:29],
        "every other token": lambda: plain(6, 5, 2, 24)[::2],
        "far apart": lambda: plain(3, 5, 40, 24)[:, :, :2],
    }[view]()
    arguments = draw_arguments(draw, x.shape, dtype)._replace(x=x.detach().requires_grad_())
    dy = draw(*x.shape, dtype=dtype)
    y = ours(op, *arguments)
    gradients = torch.autograd.grad(y, [getattr(arguments, name) for name in names(op, arguments)], dy)
    check(op, arguments, y, gradients, dy)
    assert y.is_contiguous() or y.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("norm", [D.Derf, D.RMSNorm])
def test_compile_makes_one_graph(draw, norm):
    torch._dynamo.reset()
    pair = draw_norms(draw, norm, 16)
    function = lambda qkv: D.qk_norm(qkv, *pair, 4, 2)
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (3, 5):
        qkv = draw(2, tokens, 8 * 16, grad=True)
        ours, expected = compiled(qkv), function(qkv)
        assert all(map(torch.equal, ours, expected))
        dys = [draw(*part.shape) for part in expected]
        wanted = [qkv, *pair[0].parameters()]
        assert all(map(torch.equal, torch.autograd.grad(ours, wanted, dys), torch.autograd.grad(expected, wanted, dys)))


def test_func(draw):
    pair = draw_norms(draw, D.RMSNorm, 16)
    loss = lambda qkv: sum(part.square().sum() for part in D.qk_norm(qkv, *pair, 4))
    qkv = draw(3, 5, 12 * 16)
    torch.testing.assert_close(vmap(grad(loss))(qkv), grad(loss)(qkv))


@pytest.mark.parametrize(
    "shape, heads, kv_heads, words",
    [((2, 47), 4, None, r"qkv has shape \[2, 47\]"), ((), 1, None, "qkv has shape"), ((2, 48), 0, 1, "qkv has shape")],
)
def test_words(shape, heads, kv_heads, words):
    with pytest.raises(RuntimeError, match=words):
        D.qk_norm(torch.ones(shape), torch.tanh, torch.tanh, heads, kv_heads)
    with pytest.raises(TypeError, match="qkv is list, expected a tensor"):
        D.qk_norm([1.0], torch.tanh, torch.tanh, 1)
