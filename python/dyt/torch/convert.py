"""Exchanges the norms of a model.

Values of weight and bias are taken over, so that a pretrained model keeps them and a new one begins at 1 and 0. Parameters
that several modules share stay shared where the modules are the same object.
"""

from collections.abc import Callable
from math import log
from typing import Any, Literal

import torch
from torch import nn

from .modules import Derf, DynamicTanh, LayerNorm, RMSNorm

__all__ = [
    "convert_ln_to_derf",
    "convert_ln_to_dyt",
    "convert_rms_to_dyt",
    "convert_rmsnorm_to_derf",
    "llama_alpha",
    "use_fused_norms",
]

Position = Literal["attention", "other"]

#: Width, and alpha in front of attention and elsewhere, as the DyT paper found them for LLaMA models.
_LLAMA = ((1024, 1.0, 1.0), (2048, 1.0, 0.5), (4096, 0.8, 0.2), (5120, 0.6, 0.15), (8192, 0.2, 0.05))

#: Names of the norms in front of attention.
_ATTENTION = ("input_layernorm", "attention_norm", "attn_norm", "norm1", "ln_1", "sa_norm")


def llama_alpha(width: int, position: Position) -> float:
    """Alpha's initial value in a language model of that width: that of the nearest width that was tried, by ratio."""
    _, attention, other = min(_LLAMA, key=lambda row: abs(log(max(width, 1) / row[0])))
    return attention if position == "attention" else other


def _exchange(module: nn.Module, make: Callable[[str, nn.Module], nn.Module | None]) -> nn.Module:
    """The module with each part for which `make` gives another one exchanged, and itself if it is such a part.

    A part whose forward was put into the object itself, as by accelerate, is left as it is.
    """
    give = lambda path, old: None if "forward" in vars(old) else make(path, old)
    if (whole := give("", module)) is not None:
        return whole
    made: dict[nn.Module, nn.Module | None] = {}
    for path, parent in list(module.named_modules()):
        for name, child in list(parent._modules.items()):
            if child is None:
                continue
            if child not in made:
                made[child] = give(f"{path}.{name}" if path else name, child)
            if (new := made[child]) is not None:
                setattr(parent, name, new)
    return module


def _take_over(new: nn.Module, old: Any, weight: torch.Tensor | None) -> nn.Module:
    """The new module with the parameters of the old one, or with this weight, with its hooks and in its mode."""
    with torch.no_grad():
        if isinstance(weight, nn.Parameter):
            new.weight = weight
        elif weight is not None:
            new.get_parameter("weight").copy_(weight)
        if getattr(new, "bias", None) is not None and getattr(old, "bias", None) is not None:
            new.bias = old.bias
    # The same dictionaries, so that the handles still remove what is in them.
    vars(new).update({name: value for name, value in vars(old).items() if "_hook" in name and name in vars(new)})
    return new.train(old.training)


def _factory(module: nn.Module) -> dict[str, Any]:
    weight = getattr(module, "weight", None)
    return {} if weight is None else {"device": weight.device, "dtype": weight.dtype}


def _is_2d(module: nn.Module) -> bool:
    """Whether it is a norm of channels-first images, such as timm's."""
    return any(cls.__name__ == "LayerNorm2d" for cls in type(module).__mro__)


def _from_layer_norm(kind: Callable[..., nn.Module], alpha: float) -> Callable[[str, nn.Module], nn.Module | None]:
    def make(path: str, old: nn.Module) -> nn.Module | None:
        if not isinstance(old, nn.LayerNorm):
            return None
        affine = old.weight is not None
        bias = old.bias is not None
        new = kind(old.normalized_shape, not _is_2d(old), alpha, elementwise_affine=affine, bias=bias, **_factory(old))
        return _take_over(new, old, old.weight)

    return make


def _from_rms_norm(
    kind: Callable[..., nn.Module], alpha: float | Callable[[int, Position], float]
) -> Callable[[str, nn.Module], nn.Module | None]:
    def make(path: str, old: nn.Module) -> nn.Module | None:
        fused = _fused(old)
        if not isinstance(fused, RMSNorm):
            return None
        position: Position = "attention" if path.rpartition(".")[2] in _ATTENTION else "other"
        value = alpha(fused.normalized_shape[-1], position) if callable(alpha) else alpha
        new = kind(fused.normalized_shape, True, value, elementwise_affine=fused.elementwise_affine, **_factory(old))
        weight = fused.weight if not fused.offset or fused.weight is None else fused.weight + fused.offset
        return _take_over(new, old, weight)

    return make


def convert_ln_to_dyt(module: nn.Module, alpha_init_value: float = 0.5) -> nn.Module:
    """The module with a DynamicTanh for each nn.LayerNorm. A LayerNorm2d becomes one with `channels_last=False`."""
    return _exchange(module, _from_layer_norm(DynamicTanh, alpha_init_value))


def convert_ln_to_derf(module: nn.Module, alpha_init_value: float = 0.5, shift_init_value: float = 0.0) -> nn.Module:
    """The module with a Derf for each nn.LayerNorm. A LayerNorm2d becomes one with `channels_last=False`."""
    return _exchange(module, _from_layer_norm(_derf(shift_init_value), alpha_init_value))


def convert_rms_to_dyt(
    module: nn.Module, alpha_init_value: float | Callable[[int, Position], float] = llama_alpha
) -> nn.Module:
    """The module with a DynamicTanh for each RMSNorm: nn.RMSNorm, and classes like LlamaRMSNorm.

    alpha follows `llama_alpha` by the width and by whether the norm's name says that it stands in front of attention. The new
    bias is 0.
    """
    return _exchange(module, _from_rms_norm(DynamicTanh, alpha_init_value))


def convert_rmsnorm_to_derf(
    module: nn.Module, alpha_init_value: float | Callable[[int, Position], float] = 0.5, shift_init_value: float = 0.0
) -> nn.Module:
    """The module with a Derf for each RMSNorm: nn.RMSNorm, and classes like LlamaRMSNorm. The new bias is 0."""
    return _exchange(module, _from_rms_norm(_derf(shift_init_value), alpha_init_value))


def _derf(shift: float) -> Callable[..., nn.Module]:
    return lambda shape, last, alpha, **rest: Derf(shape, last, alpha, shift, **rest)


def use_fused_norms(model: nn.Module) -> nn.Module:
    """The model with its LayerNorms and RMSNorms computed by these kernels: the same keys, parameters, hooks and results.

    nn.LayerNorm and nn.RMSNorm are exchanged. So are subclasses of nn.LayerNorm with "LayerNorm" in their name, and classes
    with "RMSNorm" in theirs, such as LlamaRMSNorm and GemmaRMSNorm, where they give the same results for random inputs.
    Everything else is left as it is. Under autocast results have another dtype: nn.LayerNorm gives float32, ours x's dtype.
    """
    return _exchange(model, lambda path, old: _fused(old))


def _fused(old: nn.Module) -> nn.Module | None:
    """Our norm for a norm of another class, if there is one that does the same."""
    if isinstance(old, (LayerNorm, RMSNorm)):
        return old if isinstance(old, RMSNorm) else None
    weight = getattr(old, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return None
    if type(old) is nn.LayerNorm:
        return _layer_norm(old)
    if type(old) is nn.RMSNorm:
        return _rms_norm(old, old.normalized_shape, old.eps, 0.0)
    name = type(old).__name__
    if not isinstance(weight, nn.Parameter) or weight.ndim != 1:
        return None
    if "LayerNorm" in name and isinstance(old, nn.LayerNorm):
        return _if_the_same(old, [_layer_norm(old)])
    if "RMSNorm" in name and getattr(old, "bias", None) is None:
        found = [getattr(old, name) for name in ("variance_epsilon", "eps", "epsilon") if hasattr(old, name)]
        if not found:
            return None
        eps = found[0]
        return _if_the_same(old, [_rms_norm(old, weight.shape, eps, offset) for offset in (0.0, 1.0)])
    return None


def _layer_norm(old: nn.LayerNorm) -> nn.Module:
    new = LayerNorm(old.normalized_shape, old.eps, old.weight is not None, old.bias is not None, **_factory(old))
    return _take_over(new, old, old.weight)


def _rms_norm(old: nn.Module, shape: Any, eps: Any, offset: float) -> nn.Module:
    weight = getattr(old, "weight", None)
    return _take_over(RMSNorm(shape, eps, weight is not None, **_factory(old), offset=offset), old, weight)


def _if_the_same(old: Any, candidates: list[nn.Module]) -> nn.Module | None:
    """The candidate that gives the old module's result for random rows, if one does. Hooks do not see them."""
    weight = old.weight
    if weight.device.type == "meta":
        return None
    # A generator of its own: the user's stays where it is. In small rows eps tells.
    rows = torch.randn(3, weight.shape[0], generator=torch.Generator())
    x = torch.cat([rows, 1e-3 * rows]).to(weight)
    with torch.no_grad():
        try:
            expected = old.forward(x)
            return next((candidate for candidate in candidates if _close(candidate.forward(x), expected)), None)
        except Exception:  # A norm of another kind of input is left as it is.
            return None


def _close(y: torch.Tensor, expected: Any) -> bool:
    if not isinstance(expected, torch.Tensor) or (y.dtype, y.shape) != (expected.dtype, expected.shape):
        return False
    tolerance = 1e-4 if y.dtype == torch.float32 else 0.05
    return torch.allclose(y, expected, rtol=tolerance, atol=tolerance)
