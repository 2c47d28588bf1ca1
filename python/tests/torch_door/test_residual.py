"""A residual that is added within the op: (y, sum), and the gradient of the sum."""

import pytest
import torch
from formulas import Near, ulp
from ops import OPS, POINTWISE, composed, draw_arguments, formula, names, ours, wide
from torch.func import grad, vmap

import dyt.torch as D

MODULES = [D.DynamicTanh, D.Derf, D.LayerNorm, D.RMSNorm]


def draw_call(draw, shape, dtype=torch.float32, grad=True, cols=None):
    """The arguments, the residual, and gradients of y and of the sum."""
    plain = lambda: draw(*shape, dtype=dtype)
    arguments = draw_arguments(draw, shape, dtype, torch.float32, grad=grad, cols=cols)
    return arguments, plain().requires_grad_(grad), plain(), plain()


def check(op, call, results, gradients, **options):
    """y and the sum have the bits of an addition and the op, and so have the gradients of the parameters."""
    arguments, residual, dy, dsum = call
    # The order of the rows in memory is that of the sums of their gradients.
    total = torch.empty_like(results[1]).copy_((arguments.x + residual).detach()).requires_grad_()
    apart = ours(op, *arguments._replace(x=total), **options)
    wanted = [total if name == "x" else getattr(arguments, name) for name in names(op, arguments)]
    expected = torch.autograd.grad(apart, wanted, dy)
    assert torch.equal(results[0], apart) and torch.equal(results[1], total)
    dx, *others, dresidual = gradients
    assert torch.equal(dx, dresidual) and dx.dtype == arguments.x.dtype
    assert all(map(torch.equal, others, expected[1:]))
    return total, dx


def run(op, call, **options):
    arguments, residual, dy, dsum = call
    results = ours(op, *arguments, residual, **options)
    wanted = [*(getattr(arguments, name) for name in names(op, arguments)), residual]
    return results, torch.autograd.grad(results, wanted, (dy, dsum))


@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (2, 7, 33), (70, 1030), (0, 8), (4, 0, 8)], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_against_the_formula(draw, dtype, op, shape):
    call = draw_call(draw, shape, dtype)
    arguments, residual, dy, dsum = call
    results, gradients = run(op, call)
    total, dx = check(op, call, results, gradients)
    cols, name = shape[-1], str(dtype).removeprefix("torch.")
    near = formula(op, arguments, wide(total, cols)).gradients(wide(dy, cols))["x"]
    value = near.value + wide(dsum, cols)
    Near(value, near.bound + ulp(name, value)).check("dx", wide(dx, cols))
    with torch.no_grad():
        assert all(map(torch.equal, ours(op, *arguments, residual), results))


@pytest.mark.parametrize("op", OPS)
def test_layouts(draw, op):
    arguments, _, _, dsum = draw_call(draw, (3, 5, 8))
    views = [
        draw(5, 3, 8).transpose(0, 1),
        draw(3, 8, 5).transpose(1, 2),
        draw(3, 5, 11)[..., 1:9],
        draw(1, 5, 8).expand(3, 5, 8),
    ]
    for x, other, gradient in zip(views, views[1:] + views[:1], views[::-1], strict=True):
        x, other = x.detach().requires_grad_(), other.detach().requires_grad_()
        call = (arguments._replace(x=x), other, gradient, dsum)
        check(op, call, *run(op, call))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("op", POINTWISE)
def test_channels_first(draw, op, memory_format):
    arguments, residual, dy, dsum = draw_call(draw, (3, 6, 5, 7), cols=(6,))
    x = arguments.x.detach().contiguous(memory_format=memory_format).requires_grad_()
    call = (arguments._replace(x=x), residual, dy, dsum)
    results, gradients = run(op, call, channels_last=False)
    check(op, call, results, gradients, channels_last=False)
    assert all(result.is_contiguous(memory_format=memory_format) for result in results)


@pytest.mark.parametrize("op", OPS)
def test_one_of_the_results_alone(draw, op):
    arguments, residual, dy, dsum = draw_call(draw, (6, 10))
    y, total = ours(op, *arguments, residual)
    assert all(torch.equal(g, dsum) for g in torch.autograd.grad(total, [arguments.x, residual], dsum))
    y, total = ours(op, *arguments, residual)
    alone = arguments._replace(x=total.detach().requires_grad_())
    wanted = [getattr(alone, name) for name in names(op, alone)]
    expected = torch.autograd.grad(ours(op, *alone), wanted, dy)
    given = [getattr(arguments, name) for name in names(op, arguments)]
    assert all(map(torch.equal, torch.autograd.grad(y, given, dy), expected))


def test_compile_makes_one_graph(draw):
    torch._dynamo.reset()
    ops = ["derf", "layer_norm", "offset"]

    def function(residual, *each):
        results = [ours(op, *arguments, residual) for op, arguments in zip(ops, each, strict=True)]
        return [value for pair in results for value in pair]

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 5):
        each = [draw_arguments(draw, (rows, 4, 16)) for _ in ops]
        residual, dys = draw(rows, 4, 16, grad=True), [draw(rows, 4, 16) for _ in range(2 * len(ops))]
        wanted = [getattr(arguments, name) for op, arguments in zip(ops, each) for name in names(op, arguments)]
        ys, expected = compiled(residual, *each), function(residual, *each)
        assert all(map(torch.equal, ys, expected))
        gradients = [torch.autograd.grad(values, [*wanted, residual], dys) for values in (ys, expected)]
        assert all(map(torch.equal, *(values[:-1] for values in gradients)))
        # Gradients of several ops are added up, in an order of their own.
        torch.testing.assert_close(gradients[0][-1], gradients[1][-1])


@pytest.mark.parametrize("op", OPS)
def test_func(draw, op):
    """Gradients of each sample, through both results."""
    arguments, residual, *_ = draw_call(draw, (5, 6, 16), grad=False)

    def apart(op, x, *others, residual):
        total = x + residual
        return composed(op, total, *others), total

    def loss(function):
        def of(x, residual, weight):
            y, total = function(op, *arguments._replace(x=x, weight=weight), residual=residual)
            return y.square().sum() + (3 * total).sin().sum()

        return vmap(grad(of, (0, 1, 2)), (0, 0, None))(arguments.x, residual, arguments.weight)

    for one, other in zip(loss(ours), loss(apart), strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * max(scale, 1.0))


@pytest.mark.parametrize("module", MODULES)
def test_modules(draw, module):
    """A module takes a residual; under autocast, too, both results have x's dtype."""
    model, x, residual = module(16).to(draw.device), draw(3, 4, 16), draw(3, 4, 16)
    y, total = model(x, residual)
    assert torch.equal(total, x + residual) and torch.equal(y, model(total))
    linear = torch.nn.Linear(16, 16).to(draw.device)
    with torch.autocast(draw.device, torch.bfloat16):
        y, total = model(linear(x), linear(residual))
    assert y.dtype == total.dtype == torch.bfloat16
    (y + total).float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


X, ALPHA = torch.ones(4, 6), torch.ones(1)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda d: D.add_dyt(X.to(d), X[:3].to(d), ALPHA.to(d)), r"residual has shape \[3, 6\], expected \[4, 6\]"),
        (lambda d: D.add_rms_norm(X.to(d), X.to(d).half(), 6), "residual is float16, expected x's float32"),
        (lambda d: D.add_layer_norm(X.to(d), X.to(d).double(), 6), "residual is float64, expected"),
        (lambda d: D.add_derf(X.to(d), None, ALPHA, ALPHA), "residual is NoneType, expected a tensor"),
    ],
)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_words(call, words, grad, device):
    with torch.set_grad_enabled(grad), pytest.raises((RuntimeError, TypeError), match=words):
        call(device)


@pytest.mark.parametrize("op", OPS)
def test_double_backward_raises(draw, op):
    arguments, residual, *_ = draw_call(draw, (4, 16))
    y, total = ours(op, *arguments, residual)
    (dx,) = torch.autograd.grad((y * total).square().sum(), arguments.x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward is not implemented"):
        dx.sum().backward()
