"""AdaLN: y · (1 + scale) + shift with a scale and a shift of each sample, in the pass of the op."""

import pytest
import torch
from ops import OPS, POINTWISE, composed, draw_arguments, formula, names, ours, wide
from torch.func import grad, vmap

import dyt.torch as D

MODULES = [D.DynamicTanh, D.Derf, D.LayerNorm, D.RMSNorm]


def near(ours, theirs, bound=2e-6, size=None):
    """Beside the largest of all, or beside `size`: a single value may come out near zero by cancellation."""
    size = theirs.abs().max().item() if size is None else size
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=bound * max(size, 1e-3))


def expected(op, arguments, scale, shift):
    """The formula in float64, with autograd's gradients."""
    double = [
        None if value is None else value.detach().double().requires_grad_() for value in (*arguments, scale, shift)
    ]
    *own, scale, shift = double
    lead = scale.ndim - 1
    across = lambda value: value.reshape(*value.shape[:lead], *[1] * (own[0].ndim - 1 - lead), -1)
    return composed(op, *own) * (1 + across(scale)) + across(shift), double


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    "shape, lead", [((3, 5, 33), 1), ((2, 3, 4, 16), 1), ((2, 3, 4, 16), 2), ((5, 7), 1), ((1, 4, 70), 1)]
)
@pytest.mark.parametrize("op", OPS)
def test_against_the_formula(draw, op, shape, lead, affine):
    if op == "offset" and not affine:
        pytest.skip("an offset is added to a weight")
    arguments = draw_arguments(draw, shape, affine=affine)
    scale, shift = (draw(*shape[:lead], shape[-1], scale=0.5, grad=True) for _ in range(2))
    y, double = expected(op, arguments, scale, shift)
    dy = draw(*shape)
    result = ours(op, *arguments, modulation=(scale, shift))
    near(result, y)
    at = [arguments._fields.index(name) for name in names(op, arguments)]
    wanted = [*(arguments[i] for i in at), scale, shift]
    others = [*(double[i] for i in at), *double[5:]]
    truth = torch.autograd.grad(y, others, dy.double())
    # dalpha and dshift are sums over all elements, of terms as large as these.
    x, alpha = double[0], double[1]
    terms = ((1 + (alpha * x).abs()) ** 2 * (1 + x.abs()) * truth[0].abs()).sum().item() / alpha.abs().item()
    for one, other in zip(torch.autograd.grad(result, wanted, dy), truth, strict=True):
        assert one.shape == other.shape
        near(one, other, *((1e-6, terms) if one.shape == (1,) else (1e-5,)))


@pytest.mark.parametrize("op", OPS)
def test_a_sample_is_a_call_of_its_own(draw, dtype, op):
    """The bits of a sample, and of its gradients, are those of a call with its factor and its bias alone."""
    arguments = draw_arguments(draw, (3, 5, 33), dtype, affine=False)
    scale, shift = (draw(3, 33, dtype=dtype, scale=0.5, grad=True) for _ in range(2))
    if op == "offset":
        pytest.skip("an offset is added to a weight")
    dy = draw(3, 5, 33, dtype=dtype)
    y = ours(op, *arguments, modulation=(scale, shift))
    gradients = torch.autograd.grad(y, [arguments.x, scale, shift], dy)
    for at in range(3):
        alone = arguments._replace(x=arguments.x[at : at + 1].detach().requires_grad_())
        row = [value[at : at + 1].detach().requires_grad_() for value in (scale, shift)]
        part = ours(op, *alone, modulation=tuple(row))
        assert torch.equal(part[0], y[at])
        for one, other in zip(torch.autograd.grad(part, [alone.x, *row], dy[at : at + 1]), gradients, strict=True):
            assert torch.equal(one[0], other[at])
    # The formula with the factor that the kernel uses.
    if op != "unbiased" and dtype == torch.float32:
        for at in range(3):
            factor = (1 + scale[at]).detach()
            own = arguments._replace(x=arguments.x[at], weight=factor, bias=shift[at])
            if op != "rms_norm":
                formula(op, own).y().check("y", wide(y[at], 33))


@pytest.mark.parametrize("op", POINTWISE)
def test_channels_first(draw, op):
    arguments = draw_arguments(draw, (3, 6, 5, 7), cols=(6,))
    scale, shift = draw(3, 6, grad=True), draw(3, 6, grad=True)
    dy = draw(3, 6, 5, 7)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = arguments.x.detach().contiguous(memory_format=memory_format).requires_grad_()
        y = ours(op, *arguments._replace(x=x), modulation=(scale, shift), channels_last=False)
        assert y.is_contiguous(memory_format=memory_format)
        last = arguments._replace(x=x.detach().movedim(1, -1).contiguous().requires_grad_())
        same = ours(op, *last, modulation=(scale, shift))
        near(y.movedim(1, -1), same)
        gradients = torch.autograd.grad(y, [scale, shift, arguments.weight], dy)
        others = torch.autograd.grad(same, [scale, shift, arguments.weight], dy.movedim(1, -1))
        for one, other in zip(gradients, others, strict=True):
            near(one, other, 1e-5)


@pytest.mark.parametrize("op", OPS)
def test_layouts_and_a_residual(draw, op):
    """Whatever the order of the samples in memory; (batch, 1, dim) is (batch, dim)."""
    arguments = draw_arguments(draw, (3, 5, 8))
    scale, shift, residual = draw(3, 1, 8), draw(3, 8), draw(3, 5, 8)
    for x in (draw(5, 3, 8).transpose(0, 1), draw(3, 8, 5).transpose(1, 2), draw(3, 5, 11)[..., 1:9]):
        arguments = arguments._replace(x=x)
        near(ours(op, *arguments, modulation=(scale, shift)), expected(op, arguments, scale[:, 0], shift)[0])
        y, total = ours(op, *arguments, residual, modulation=(scale, shift))
        assert torch.equal(total, x + residual)
        assert torch.equal(y, ours(op, *arguments._replace(x=total), modulation=(scale, shift)))


def test_compile_makes_one_graph(draw):
    torch._dynamo.reset()
    ops = ["dyt", "unbiased", "offset"]

    def function(scale, shift, *each):
        return [ours(op, *own, modulation=(scale, shift)) for op, own in zip(ops, each, strict=True)]

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in (3, 5):
        each = [draw_arguments(draw, (rows, 4, 16)) for _ in ops]
        scale, shift = draw(rows, 16, grad=True), draw(rows, 16, grad=True)
        dys = [draw(rows, 4, 16) for _ in ops]
        ys, plain = compiled(scale, shift, *each), function(scale, shift, *each)
        assert all(map(torch.equal, ys, plain))
        wanted = [*(own.x for own in each), scale, shift]
        for one, other in zip(*(torch.autograd.grad(values, wanted, dys) for values in (ys, plain)), strict=True):
            near(one, other)


@pytest.mark.parametrize("op", OPS)
def test_func(draw, op):
    """vmap over samples, each with tokens of its own, and over an ensemble of conditions."""
    arguments = draw_arguments(draw, (3, 2, 5, 16), grad=False)
    scale, shift = draw(3, 2, 16), draw(3, 2, 16)

    def loss(x, scale, shift):
        return ours(op, *arguments._replace(x=x), modulation=(scale, shift)).square().sum()

    each = vmap(grad(loss, (0, 1, 2)))(arguments.x, scale, shift)
    whole = grad(loss, (0, 1, 2))(arguments.x, scale, shift)
    for one, other in zip(each, whole, strict=True):
        near(one, other, 1e-5)


@pytest.mark.parametrize("module", MODULES)
def test_modules(draw, module):
    model = module(16).to(draw.device)
    x, residual, scale, shift = draw(3, 4, 16), draw(3, 4, 16), draw(3, 16), draw(3, 16)
    near(model.modulate(x, scale, shift), model(x) * (1 + scale[:, None]) + shift[:, None])
    y, total = model.modulate(x, scale, shift, residual)
    assert torch.equal(total, x + residual) and torch.equal(y, model.modulate(total, scale, shift))
    with torch.autocast(draw.device, torch.bfloat16):
        y = model.modulate(torch.nn.Linear(16, 16).to(draw.device)(x), scale, shift)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("shape", [(0, 4, 8), (3, 0, 8)], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_without_rows(draw, op, shape):
    arguments = draw_arguments(draw, shape)
    scale, shift = draw(shape[0], 8, grad=True), draw(shape[0], 8, grad=True)
    y = ours(op, *arguments, modulation=(scale, shift))
    assert y.shape == shape
    for value, gradient in zip((scale, shift), torch.autograd.grad(y.sum(), [scale, shift]), strict=True):
        assert torch.equal(gradient, torch.zeros_like(value))


X, ALPHA = torch.ones(4, 3, 6), torch.ones(1)


@pytest.mark.parametrize(
    "scale, shift, words",
    [
        (torch.ones(3, 6), torch.ones(4, 6), r"scale has shape \[3, 6\], expected \[4, 6\]"),
        (torch.ones(4, 6), torch.ones(4, 5), r"shift has shape \[4, 5\], expected \[4, 6\]"),
        (torch.ones(4, 6), torch.ones(4, 3, 6), r"shift has shape \[4, 3, 6\], expected scale's \[4, 6\]"),
        (torch.ones(2, 4, 3, 6), torch.ones(4, 6), r"scale has shape \[2, 4, 3, 6\]"),
        (torch.ones(4, 6).double(), torch.ones(4, 6), "weight is float64"),
        (None, torch.ones(4, 6), "scale is NoneType, expected a tensor"),
    ],
)
def test_words(scale, shift, words):
    with pytest.raises((RuntimeError, TypeError), match=words):
        D.dyt(X, ALPHA, modulation=(scale, shift))
    with pytest.raises((RuntimeError, TypeError), match=words):
        D.rms_norm(X, 6, modulation=(scale, shift))
