"""Modules: names, state, and the exchange of a model's norms."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn

import dyt.torch as D

KINDS = [D.DynamicTanh, D.Derf, D.LayerNorm, D.RMSNorm]


def state(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_state_is_that_of_the_references():
    assert state(D.DynamicTanh(16)) == {"alpha": (1,), "weight": (16,), "bias": (16,)}
    assert state(D.Derf(16)) == {"alpha": (1,), "weight": (16,), "bias": (16,), "shift": (1,)}
    assert state(D.LayerNorm(16)) == state(nn.LayerNorm(16))
    assert state(D.RMSNorm(16)) == state(nn.RMSNorm(16))
    assert D.Dynamic_erf is D.Derf


@pytest.mark.parametrize("ours, theirs", [(D.LayerNorm, nn.LayerNorm), (D.RMSNorm, nn.RMSNorm)])
def test_arguments_are_those_of_torch(ours, theirs):
    own = list(inspect.signature(ours).parameters.values())[: len(inspect.signature(theirs).parameters)]
    assert [(p.name, p.default) for p in own] == [
        (p.name, p.default) for p in inspect.signature(theirs).parameters.values()
    ]


def test_initial_values():
    module = D.Derf(8, alpha_init_value=0.7, shift_init_value=0.1)
    assert module.alpha.item() == pytest.approx(0.7) and module.shift.item() == pytest.approx(0.1)
    assert torch.equal(module.weight, torch.ones(8)) and torch.equal(module.bias, torch.zeros(8))
    assert torch.equal(D.RMSNorm(8, offset=1.0).weight, torch.zeros(8))


def test_without_parameters():
    assert state(D.DynamicTanh(16, elementwise_affine=False)) == {"alpha": (1,)}
    assert state(D.DynamicTanh(16, bias=False)) == {"alpha": (1,), "weight": (16,)}
    x = torch.randn(3, 16)
    assert torch.equal(D.DynamicTanh(16, elementwise_affine=False)(x), D.DynamicTanh(16)(x))


@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind):
    module, x = kind(16), torch.randn(3, 16)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    loaded = kind(16)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
        assert torch.equal(other(x), module(x)) and repr(other) == repr(module)


@pytest.mark.parametrize("kind", KINDS)
def test_meta(kind):
    module = kind(16, device="meta", dtype=torch.bfloat16)
    x = torch.empty(2, 16, device="meta", dtype=torch.bfloat16, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert y.device.type == "meta" and y.shape == (2, 16) and x.grad.shape == (2, 16)
    real = module.to_empty(device="cpu")
    real.reset_parameters()
    assert torch.equal(
        real(torch.ones(2, 16, dtype=torch.bfloat16)),
        kind(16, dtype=torch.bfloat16)(torch.ones(2, 16, dtype=torch.bfloat16)),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_parametrized(kind):
    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    module, x = kind(16), torch.randn(3, 16)
    plain = module(x)
    nn.utils.parametrize.register_parametrization(module, "weight", Twice())
    torch.testing.assert_close(module(x), 2 * plain)


@pytest.mark.parametrize(
    "kind, theirs",
    [
        (
            D.DynamicTanh,
            {"alpha": torch.tensor([2.0]), "gamma": torch.full((8,), 3.0), "beta": torch.full((8,), 4.0)},
        ),  # Liger
        (
            D.DynamicTanh,
            {"pre_tanh_scale": torch.tensor(2.0), "gamma": torch.full((8,), 3.0), "beta": torch.full((8,), 4.0)},
        ),  # x-transformers
        (D.DynamicTanh, {"alpha": torch.tensor(2.0), "weight": torch.full((8,), 3.0), "bias": torch.full((8,), 4.0)}),
        (
            D.Derf,
            {
                "alpha": torch.tensor(2.0),
                "s": torch.tensor(5.0),
                "gamma": torch.full((8,), 3.0),
                "beta": torch.full((8,), 4.0),
            },
        ),
        (
            D.Derf,
            {
                "alpha": torch.tensor([2.0]),
                "shift": torch.tensor([5.0]),
                "weight": torch.full((8,), 3.0),
                "bias": torch.full((8,), 4.0),
            },
        ),
        (D.LayerNorm, {"gamma": torch.full((8,), 3.0), "beta": torch.full((8,), 4.0)}),
        (D.RMSNorm, {"scale": torch.full((8,), 3.0)}),  # torchtune
        (D.RMSNorm, {"gamma": torch.full((8,), 3.0)}),
    ],
)
def test_state_of_other_libraries(kind, theirs):
    model = nn.Sequential(kind(8))
    model.load_state_dict({f"0.{name}": value for name, value in theirs.items()})
    values = {"alpha": 2.0, "weight": 3.0, "bias": 4.0, "shift": 5.0}
    for name, parameter in model[0].named_parameters():
        assert (parameter == values[name]).all(), name


def test_a_wrong_state_is_refused():
    with pytest.raises(RuntimeError, match="Missing key.*alpha"):
        D.DynamicTanh(8).load_state_dict({"weight": torch.ones(8), "bias": torch.ones(8)})


# --- exchange -----------------------------------------------------------------------------------------------------


class LayerNorm2d(nn.LayerNorm):
    """As timm's: channels-first images."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LlamaRMSNorm(nn.Module):
    """As in transformers."""

    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(width)), eps

    def factor(self):
        return self.weight

    def forward(self, x):
        single = x.float()
        single = single * torch.rsqrt(single.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.factor() * single).to(x.dtype)


class GemmaRMSNorm(LlamaRMSNorm):
    def factor(self):
        return 1.0 + self.weight


class OtherRMSNorm(LlamaRMSNorm):
    """One that computes something else."""

    def factor(self):
        return self.weight.square() + 0.3


class Block(nn.Module):
    def __init__(self, norm, width=16):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = norm(width), norm(width)
        self.attention, self.mlp = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        x = x + self.attention(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


def model(norm):
    made = nn.Sequential(Block(norm), Block(norm), norm(16))
    for name, parameter in made.named_parameters():
        if "norm" in name or name.startswith("2."):
            nn.init.normal_(parameter, 1.0, 0.3)
    return made


@pytest.mark.parametrize(
    "norm, ours",
    [(nn.LayerNorm, D.LayerNorm), (nn.RMSNorm, D.RMSNorm), (LlamaRMSNorm, D.RMSNorm), (GemmaRMSNorm, D.RMSNorm)],
)
def test_use_fused_norms(norm, ours):
    old = model(norm)
    keys, parameters, x = list(old.state_dict()), dict(old.named_parameters()), torch.randn(3, 5, 16)
    expected = old(x)
    new = D.use_fused_norms(old)
    assert new is old and sum(isinstance(part, ours) for part in new.modules()) == 5
    assert list(new.state_dict()) == keys
    # An optimizer that was made before still moves the same parameters.
    assert all(parameter is parameters[name] for name, parameter in new.named_parameters())
    torch.testing.assert_close(new(x), expected, atol=1e-5, rtol=1e-5)
    if norm is GemmaRMSNorm:
        assert new[2].offset == 1.0


def test_use_fused_norms_leaves_what_it_does_not_know():
    double = nn.LayerNorm(16, dtype=torch.float64)
    old = nn.Sequential(
        OtherRMSNorm(16), LayerNorm2d(16), nn.BatchNorm1d(16), nn.GroupNorm(2, 16), D.LayerNorm(16), double
    )
    kinds = [type(part) for part in old]
    assert [type(part) for part in D.use_fused_norms(old)] == kinds


class NamelessRMSNorm(nn.Module):
    """One whose eps is where nobody looks for it."""

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight, self.small = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.small)


class ScaledRMSNorm(LlamaRMSNorm):
    """One whose eps is another than its attribute says."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 10 * self.variance_epsilon)


class SingleRMSNorm(LlamaRMSNorm):
    """One whose result has another dtype than x."""

    def forward(self, x):
        return super().forward(x.float())


class TallRMSNorm(LlamaRMSNorm):
    """One of images: rows are not what it takes."""

    def forward(self, x):
        return super().forward(x)[None]


@pytest.mark.parametrize("norm", [NamelessRMSNorm, ScaledRMSNorm, SingleRMSNorm, TallRMSNorm])
def test_use_fused_norms_leaves_what_gives_other_results(norm):
    old = nn.Sequential(norm(16).bfloat16() if norm is SingleRMSNorm else norm(16))
    assert type(D.use_fused_norms(old)[0]) is norm


def test_use_fused_norms_leaves_the_generator():
    state = torch.get_rng_state()
    D.use_fused_norms(model(LlamaRMSNorm))
    made = torch.get_rng_state()
    torch.set_rng_state(state)
    model(LlamaRMSNorm)
    assert torch.equal(torch.get_rng_state(), made)


@pytest.mark.parametrize("exchange", [D.use_fused_norms, D.convert_ln_to_dyt, D.convert_rms_to_dyt])
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, LlamaRMSNorm])
def test_hooks_stay(norm, exchange):
    old, seen = norm(16), []
    if exchange is not D.use_fused_norms and (norm is nn.LayerNorm) != (exchange is D.convert_ln_to_dyt):
        pytest.skip("another kind of norm")
    old.register_forward_pre_hook(lambda module, arguments: seen.append("before"))
    handle = old.register_forward_hook(lambda module, arguments, y: seen.append("after"))
    old.register_full_backward_hook(lambda module, dx, dy: seen.append("backward"))
    new = exchange(old)
    assert new is not old and seen == []
    new(torch.randn(2, 16, requires_grad=True)).sum().backward()
    assert seen == ["before", "after", "backward"]
    handle.remove()
    new(torch.randn(2, 16))
    assert seen[3:] == ["before"]


@pytest.mark.parametrize("exchange", [D.use_fused_norms, D.convert_ln_to_dyt])
def test_a_module_with_a_forward_of_its_own_is_left(exchange):
    """As accelerate makes them."""
    old = nn.LayerNorm(16)
    old.forward = lambda x: x
    assert exchange(old) is old


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_the_argument_has_torchs_name(norm):
    old, x = norm(16), torch.randn(2, 16)
    (name,) = inspect.signature(old.forward).parameters
    torch.testing.assert_close(D.use_fused_norms(old)(**{name: x}), old(x))


def test_a_norm_alone_and_a_shared_one():
    assert type(D.use_fused_norms(nn.LayerNorm(8))) is D.LayerNorm
    shared = nn.LayerNorm(8)
    new = D.use_fused_norms(nn.ModuleDict({"a": shared, "b": shared, "c": nn.Sequential(shared)}))
    assert new["a"] is new["b"] is new["c"][0] and type(new["a"]) is D.LayerNorm


@pytest.mark.parametrize("convert, kind", [(D.convert_ln_to_dyt, D.DynamicTanh), (D.convert_ln_to_derf, D.Derf)])
def test_convert_layer_norms(convert, kind):
    old = nn.Sequential(
        nn.LayerNorm(8, bias=False), LayerNorm2d(8), nn.LayerNorm(8, elementwise_affine=False), nn.LayerNorm((2, 8))
    ).eval()
    weight = old[0].weight
    new = convert(old, 0.7)
    assert [type(part) for part in new] == [kind] * 4 and not new[0].training
    assert new[0].weight is weight and new[0].bias is None and new[2].weight is None
    assert [part.channels_last for part in new] == [True, False, True, True]
    assert new[0].alpha.item() == pytest.approx(0.7)
    assert new[1](torch.randn(2, 8, 3, 3)).shape == (2, 8, 3, 3)
    assert new[3](torch.randn(4, 2, 8)).shape == (4, 2, 8)


def test_convert_rms_norms():
    new = D.convert_rms_to_dyt(model(GemmaRMSNorm))
    assert all(
        isinstance(part, D.DynamicTanh) for part in (new[0].input_layernorm, new[1].post_attention_layernorm, new[2])
    )
    assert new[0].input_layernorm.alpha.item() == 1.0
    # Gemma's weight is one less than the factor.
    assert new[2].weight.mean() > 1.5
    derf = D.convert_rmsnorm_to_derf(model(LlamaRMSNorm), 0.5, 0.1)
    assert isinstance(derf[2], D.Derf) and derf[2].shift.item() == pytest.approx(0.1)
    wide = D.convert_rms_to_dyt(Block(nn.RMSNorm, 4096))
    assert wide.input_layernorm.alpha.item() == pytest.approx(0.8)
    assert wide.post_attention_layernorm.alpha.item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    "width, attention, other", [(1, 1, 1), (1500, 1, 0.5), (4096, 0.8, 0.2), (5000, 0.6, 0.15), (8192, 0.2, 0.05)]
)
def test_llama_alpha(width, attention, other):
    assert (D.llama_alpha(width, "attention"), D.llama_alpha(width, "other")) == (attention, other)


@pytest.mark.parametrize("policy", ["op", "formula"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_compile_policy(device, policy):
    """What a trace has of the ops: the formula on a GPU alone, and there without the op."""
    if device == "cuda" and not torch.cuda.is_available() and torch.__version__ < (2, 15):
        pytest.skip("this torch asks for a GPU while it traces")
    from torch._subclasses import FakeTensorMode

    from dyt.torch._ops import NAMESPACE

    graphs = []

    def backend(graph, _):
        graphs.append({str(node.target) for node in graph.graph.nodes})
        return graph.forward

    torch._dynamo.reset()
    D.set_compile_policy(policy)
    try:
        # Without values a GPU is not needed.
        with FakeTensorMode():
            x, alpha, weight = (torch.empty(size, device=device) for size in ((3, 4), 1, 4))
            y = torch.compile(D.dyt, backend=backend, fullgraph=True)(x, alpha, weight)
    finally:
        D.set_compile_policy("op")
    assert y.shape == (3, 4) and y.device.type == device
    (seen,) = graphs
    formula = policy == "formula" and device == "cuda"
    assert ("tanh" in seen, any(f"{NAMESPACE}.forward" in name for name in seen)) == (formula, not formula)


def test_a_policy_that_is_not_there():
    with pytest.raises(ValueError, match="policy is 'other'"):
        D.set_compile_policy("other")


@pytest.mark.parametrize("last", [True, False])
def test_the_formula_is_the_op(last):
    from dyt.torch._functions import formula

    x, alpha, shift, weight, bias = torch.randn(2, 5, 5), *torch.randn(2, 1), *torch.randn(2, 5)
    dims = 1 if last else 0
    torch.testing.assert_close(
        formula(x, alpha, None, weight, bias, dims), D.dyt(x, alpha, weight, bias, channels_last=last)
    )
    torch.testing.assert_close(
        formula(x, alpha, shift, weight, None, dims), D.derf(x, alpha, shift, weight, channels_last=last)
    )
