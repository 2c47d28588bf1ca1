"""Values and gradients against the formulas in float64, in every dtype and layout."""

import pytest
import torch
from ops import OPS, POINTWISE, check, draw_arguments, names, ours, wide

SHAPES = [(1, 2), (3, 5), (2, 7, 33), (2, 3, 4, 129), (64, 2048), (9,), (0, 8), (4, 0, 8)]


def run(op, arguments, dy, **options):
    y = ours(op, *arguments, **options)
    wanted = [getattr(arguments, name) for name in names(op, arguments)]
    return y, torch.autograd.grad(y, wanted, dy)


@pytest.mark.parametrize("param", ["own", "f32", "none"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_against_the_formula(draw, dtype, op, shape, param):
    if op == "offset" and param == "none":
        pytest.skip("an offset is added to a weight")
    arguments = draw_arguments(draw, shape, dtype, torch.float32 if param == "f32" else dtype, param != "none")
    dy = draw(*shape, dtype=dtype)
    y, gradients = run(op, arguments, dy)
    assert y.dtype == dtype and y.shape == arguments.x.shape and y.device == arguments.x.device
    check(op, arguments, y, gradients, dy)
    with torch.no_grad():
        assert torch.equal(ours(op, *arguments), y)


@pytest.mark.parametrize("op", OPS)
def test_several_normalized_dimensions(draw, op):
    arguments = draw_arguments(draw, (5, 2, 3, 7), cols=(3, 7))
    dy = draw(5, 2, 3, 7)
    check(op, arguments, *run(op, arguments, dy), dy)


@pytest.mark.parametrize("shape", [(), (1,), (6,)], ids=str)
@pytest.mark.parametrize("op", POINTWISE)
def test_few_dimensions(draw, op, shape):
    arguments = draw_arguments(draw, shape, cols=shape[-1:] or (1,))
    dy = draw(*shape)
    y, gradients = run(op, arguments, dy)
    assert y.shape == shape
    check(op, arguments, y, gradients, dy)


def layouts(draw, shape, dtype):
    """The same kind of values, in memory in every way."""
    plain = lambda *shape: draw(*shape, dtype=dtype, scale=2.0)
    a, b, c = shape
    return {
        "transposed rows": plain(b, a, c).transpose(0, 1),
        "transposed columns": plain(a, c, b).transpose(1, 2),
        "every other column": plain(a, b, 2 * c)[..., ::2],
        "part of wider rows": plain(a, b, c + 3)[..., 1:-2],
        "expanded": plain(1, b, c).expand(a, b, c),
        "beginning at an odd place": plain(a * b * c + 1)[1:].view(a, b, c),
        "sizes of 1": plain(a, 1, c).transpose(0, 1).expand(1, a, c),
    }


@pytest.mark.parametrize("layout", layouts(lambda *s, **_: torch.zeros(s), (2, 3, 4), None))
@pytest.mark.parametrize("op", OPS)
def test_layouts(draw, dtype, op, layout):
    arguments = draw_arguments(draw, (3, 5, 8), dtype)
    arguments = arguments._replace(x=layouts(draw, (3, 5, 8), dtype)[layout].detach().requires_grad_())
    for dy in (draw(*arguments.x.shape, dtype=dtype), draw(1, 1, 8, dtype=dtype).expand(arguments.x.shape)):
        check(op, arguments, *run(op, arguments, dy), dy)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("op", POINTWISE)
def test_channels_first(draw, dtype, op, memory_format):
    arguments = draw_arguments(draw, (3, 6, 5, 7), dtype, cols=(6,))
    x = arguments.x.detach().contiguous(memory_format=memory_format).requires_grad_()
    arguments = arguments._replace(x=x)
    dy = draw(3, 6, 5, 7, dtype=dtype)
    y, gradients = run(op, arguments, dy, channels_last=False)
    assert y.is_contiguous(memory_format=memory_format) and gradients[0].is_contiguous(memory_format=memory_format)
    rows = lambda tensor, cols: wide(tensor.movedim(1, -1).contiguous(), cols)
    check(op, arguments, y, gradients, dy, rows)


def test_channels_last_is_not_copied(draw):
    plain, alpha, weight = draw(2, 8, 5, 7), draw(1), draw(8)
    from torch.profiler import ProfilerActivity, profile

    import dyt.torch

    def is_copied(x):
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as seen:
            dyt.torch.dyt(x, alpha, weight, channels_last=False)
        return "aten::copy_" in {event.key for event in seen.key_averages()}

    assert not is_copied(plain) and not is_copied(plain.contiguous(memory_format=torch.channels_last))
    assert is_copied(draw(2, 5, 8, 7).transpose(1, 2))


@pytest.mark.parametrize("op", POINTWISE)
def test_scalars_of_every_shape_and_dtype(draw, dtype, op):
    arguments = draw_arguments(draw, (4, 9))
    dy = draw(4, 9)
    alpha = arguments.alpha.detach().to(dtype).reshape(()).requires_grad_()
    shift = arguments.shift.detach().to(dtype).reshape(1, 1).requires_grad_()
    arguments = arguments._replace(alpha=alpha, shift=shift)
    check(op, arguments, *run(op, arguments, dy), dy)


def test_parameters_of_two_dtypes(draw):
    """Those that the kernels do not take beside one another are brought to float32."""
    arguments = draw_arguments(draw, (4, 9), torch.bfloat16)
    arguments = arguments._replace(weight=draw(9, dtype=torch.float16, grad=True), bias=draw(9, grad=True))
    dy = draw(4, 9, dtype=torch.bfloat16)
    check("dyt", arguments, *run("dyt", arguments, dy), dy)
    single = arguments._replace(x=draw(4, 9, grad=True))
    dy = draw(4, 9)
    check("layer_norm", single, *run("layer_norm", single, dy), dy)


@pytest.mark.parametrize("op", OPS)
def test_only_the_gradients_that_are_wanted(draw, op):
    arguments = draw_arguments(draw, (6, 10))
    dy = draw(6, 10)
    every = dict(zip(names(op, arguments), run(op, arguments, dy)[1]))
    for name in every:
        alone = arguments._make(None if t is None else t.detach() for t in arguments)
        alone = alone._replace(**{name: getattr(arguments, name)})
        (gradient,) = torch.autograd.grad(ours(op, *alone), [getattr(alone, name)], dy)
        assert torch.equal(gradient, every[name]), name


@pytest.mark.parametrize("op", OPS)
def test_several_threads_give_the_same_bits(draw, op):
    arguments = draw_arguments(draw, (300, 1000))
    dy = draw(300, 1000)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        y, gradients = run(op, arguments, dy)
        torch.set_num_threads(2)
        again, others = run(op, arguments, dy)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(y, again) and all(map(torch.equal, gradients, others))


@pytest.mark.parametrize("eps", [None, 1e-6])
def test_rms_norm_has_torchs_eps(draw, dtype, eps):
    import dyt.torch

    x = draw(4, 16, dtype=dtype, scale=2e-4)
    y, theirs = dyt.torch.rms_norm(x, 16, eps=eps), torch.nn.functional.rms_norm(x, (16,), eps=eps)
    torch.testing.assert_close(y, theirs)


@pytest.mark.parametrize("sizes, strides, last", [
    ((2, 9), (2**31 + 8, 1), True),
    ((9, 2), (1, 2**31 + 8), True),
    ((1, 9), (2**32, 1), True),
    ((2, 1, 9), (9, 2**32, 1), True),
    ((1, 2, 3), (2**32, 2**31 + 8, 2), False),
    ((2, 9, 1), (2**31 + 8, 1, 2**32), False),
])  # fmt: skip
@pytest.mark.parametrize("op", POINTWISE + ["layer_norm"])
def test_strides_that_an_int_does_not_hold(draw, op, sizes, strides, last):
    """Elements that lie further than 2³¹ apart, in memory of which nothing else is touched."""
    if op == "layer_norm" and not last:
        pytest.skip("the norms have no channels_last")
    if free_gib() < 6:
        pytest.skip("less than 6 GiB of memory are free")
    arguments = draw_arguments(draw, sizes, torch.bfloat16, cols=sizes[-1:] if last else sizes[1:2])
    room = torch.empty(2**31 + 64, dtype=torch.bfloat16, device=draw.device)
    x = room.as_strided(sizes, strides)
    x.copy_(arguments.x.detach())
    arguments = arguments._replace(x=x.requires_grad_())
    dy = draw(*sizes, dtype=torch.bfloat16)
    options = {} if last else {"channels_last": False}
    rows = wide if last else lambda tensor, cols: wide(tensor.movedim(1, -1).contiguous(), cols)
    check(op, arguments, *run(op, arguments, dy, **options), dy, rows)


def free_gib():
    """Memory that is free, where the system tells."""
    try:
        lines = dict(line.split(":", 1) for line in open("/proc/meminfo"))
        return int(lines["MemAvailable"].split()[0]) / 2**20
    except OSError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("last", [True, False])
def test_more_elements_than_an_int_holds(last):
    """Beyond 2³¹ elements; the rows on both sides of that border, and the last ones, are those of a small call."""
    if free_gib() < 12:
        pytest.skip("less than 12 GiB of memory are free")
    import dyt.torch

    rows, cols = 2**16 + 1, 2**15
    row = torch.randn(cols, dtype=torch.bfloat16)
    x = torch.zeros(1, rows, cols, dtype=torch.bfloat16)
    at = [0, 2**15 - 1, 2**15, 2**16 - 1, 2**16]
    x[0, at] = row
    alpha = torch.tensor([0.7])
    x = x if last else x.view(rows, 1, cols)
    weight = torch.randn(cols) if last else torch.randn(1)
    with torch.no_grad():
        y = dyt.torch.dyt(x, alpha, weight, channels_last=last)
        expected = dyt.torch.dyt(
            row.reshape(1, -1) if last else row.reshape(1, 1, -1), alpha, weight, channels_last=last
        )
    assert x.numel() > 2**31 and y.shape == x.shape
    assert all(torch.equal(y.view(rows, cols)[i], expected.reshape(-1)) for i in at)
