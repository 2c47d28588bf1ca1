"""Layers for Hugging Face `kernels`: `kernelize` gives their forward to a module that is there, whose parameters stay.

A layer has nothing but a forward, by the rules of `kernels`.
"""

from torch import Tensor, nn

from .torch import functional as F

__all__ = ["Derf", "DynamicTanh", "LayerNorm", "RMSNorm"]


class DynamicTanh(nn.Module):
    """For modules with alpha, weight and bias."""

    can_torch_compile: bool = True
    has_backward: bool = True
    alpha: Tensor
    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        last = getattr(self, "channels_last", True)
        return F.dyt(x, self.alpha, getattr(self, "weight", None), getattr(self, "bias", None), channels_last=last)


class Derf(nn.Module):
    """For modules with alpha, shift, weight and bias."""

    can_torch_compile: bool = True
    has_backward: bool = True
    alpha: Tensor
    shift: Tensor
    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        last = getattr(self, "channels_last", True)
        return F.derf(
            x, self.alpha, self.shift, getattr(self, "weight", None), getattr(self, "bias", None), channels_last=last
        )


class LayerNorm(nn.Module):
    """For modules like torch's."""

    can_torch_compile: bool = True
    has_backward: bool = True
    normalized_shape: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    eps: float

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """For modules like torch's and like LlamaRMSNorm, whose eps is `variance_epsilon`."""

    can_torch_compile: bool = True
    has_backward: bool = True
    weight: Tensor

    def forward(self, hidden_states: Tensor) -> Tensor:
        eps = getattr(self, "variance_epsilon", None)
        eps = getattr(self, "eps", None) if eps is None else eps
        return F.rms_norm(hidden_states, self.weight.shape, self.weight, eps)
