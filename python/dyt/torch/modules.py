"""The ops as modules, by the names and arguments of their references."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import _ops
from . import functional as F
from ._functions import call
from ._ops import DERF, DYT

__all__ = ["Derf", "Dynamic_erf", "DynamicTanh", "LayerNorm", "RMSNorm"]

Shape = int | Sequence[int]


def _rename(state: dict[str, Any], prefix: str, module: nn.Module, names: dict[str, str]) -> None:
    """Gives parameters of other libraries our names, and values without dimensions our shape."""
    for theirs, ours in names.items():
        if prefix + theirs in state and prefix + ours not in state and getattr(module, ours, None) is not None:
            state[prefix + ours] = state.pop(prefix + theirs)
    for scalar in ("alpha", "shift"):
        value = state.get(prefix + scalar)
        if isinstance(value, Tensor) and value.ndim == 0:
            state[prefix + scalar] = value.reshape(1)


class _Layer:
    """What every module here has.

    forward(x) is y. forward(x, residual) is (y, sum), where y is the op of sum = x + residual.
    """

    def modulate(self, x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None = None) -> Any:
        """AdaLN: y · (1 + scale) + shift in one pass; scale and shift are as (batch, dim) beside an x of (batch, tokens, dim).

        With a residual it is (y, sum), as in `forward`.
        """
        module: Any = self
        return module(x, residual, modulation=(scale, shift))


class _Pointwise(_Layer, nn.Module):
    """What DyT and Derf share."""

    #: Names in other libraries: Liger's, and those of x-transformers.
    _aliases = {"gamma": "weight", "beta": "bias", "pre_tanh_scale": "alpha", "s": "shift"}

    normalized_shape: tuple[int, ...]
    alpha: nn.Parameter
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        normalized_shape: Shape,
        channels_last: bool,
        alpha_init_value: float,
        elementwise_affine: bool,
        bias: bool,
        factory: dict[str, Any],
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        if not channels_last and len(self.normalized_shape) != 1:
            raise ValueError(
                f"dyt: normalized_shape is {normalized_shape}, expected the channels alone with channels_last=False"
            )
        #: How many of x's last dimensions the parameters have; 0 for channels-first data.
        self._dims = len(self.normalized_shape) if channels_last else 0
        self.alpha_init_value = alpha_init_value
        self.elementwise_affine = elementwise_affine
        self.alpha = nn.Parameter(torch.empty(1, **factory))
        for name, wanted in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            self.register_parameter(
                name, nn.Parameter(torch.empty(self.normalized_shape, **factory)) if wanted else None
            )

    @property
    def channels_last(self) -> bool:
        """Whether the parameters run along x's last dimensions, and not along dimension 1."""
        return self._dims > 0

    def reset_parameters(self) -> None:
        """The initial values: weight 1, bias 0."""
        nn.init.constant_(self.alpha, self.alpha_init_value)
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        _rename(state_dict, prefix, self, self._aliases)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return (
            f"normalized_shape={self.normalized_shape}, channels_last={self.channels_last}, "
            f"alpha_init_value={self.alpha_init_value}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class DynamicTanh(_Pointwise):
    """DyT, weight · tanh(alpha · x) + bias, with the names and the state_dict of the reference: alpha (1,), weight, bias.

    It also loads the state_dict of Liger (gamma, beta) and of x-transformers (pre_tanh_scale, gamma, beta).
    """

    def __init__(
        self,
        normalized_shape: Shape,
        channels_last: bool = True,
        alpha_init_value: float = 0.5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            normalized_shape,
            channels_last,
            alpha_init_value,
            elementwise_affine,
            bias,
            {"device": device, "dtype": dtype},
        )
        self.reset_parameters()

    def forward(self, x: Tensor, residual: Tensor | None = None, *, modulation: F.Modulation | None = None) -> Any:
        # As an attribute a parameter costs as much as a small kernel.
        own: dict[str, Any] = self._parameters
        try:
            alpha, weight, bias = own["alpha"], own["weight"], own["bias"]
        except KeyError:  # `torch.nn.utils.parametrize` has moved one of them.
            alpha, weight, bias = self.alpha, self.weight, self.bias
        if modulation is None:
            return call(x, residual, alpha, None, weight, bias, self._dims, DYT)
        return F.modulated_pointwise(x, residual, alpha, None, weight, bias, self._dims, modulation)


class Derf(_Pointwise):
    """Derf, weight · erf(alpha · x + shift) + bias; alpha and shift are (1,). It also loads x-transformers' s for shift."""

    shift: nn.Parameter

    def __init__(
        self,
        normalized_shape: Shape,
        channels_last: bool = True,
        alpha_init_value: float = 0.5,
        shift_init_value: float = 0.0,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            normalized_shape,
            channels_last,
            alpha_init_value,
            elementwise_affine,
            bias,
            {"device": device, "dtype": dtype},
        )
        self.shift_init_value = shift_init_value
        self.shift = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.shift, self.shift_init_value)

    def forward(self, x: Tensor, residual: Tensor | None = None, *, modulation: F.Modulation | None = None) -> Any:
        own: dict[str, Any] = self._parameters
        try:
            alpha, shift, weight, bias = own["alpha"], own["shift"], own["weight"], own["bias"]
        except KeyError:
            alpha, shift, weight, bias = self.alpha, self.shift, self.weight, self.bias
        if modulation is None:
            return call(x, residual, alpha, shift, weight, bias, self._dims, DERF)
        return F.modulated_pointwise(x, residual, alpha, shift, weight, bias, self._dims, modulation)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, shift_init_value={self.shift_init_value}"


#: The name in the reference of Derf.
Dynamic_erf = Derf


class LayerNorm(_Layer, nn.LayerNorm):
    """`torch.nn.LayerNorm`, and with `unbiased` the form of the Annotated Transformer. It also loads gamma and beta."""

    def __init__(
        self,
        normalized_shape: Shape,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        unbiased: bool = False,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.unbiased = unbiased

    def forward(self, input: Tensor, residual: Tensor | None = None, *, modulation: F.Modulation | None = None) -> Any:
        own = self._parameters
        try:
            weight, bias = own["weight"], own["bias"]
        except KeyError:
            weight, bias = self.weight, self.bias
        form = _ops.UNBIASED if self.unbiased else _ops.LAYER_NORM
        return F.norm(input, residual, self.normalized_shape, weight, bias, self.eps, form, 0.0, modulation)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        _rename(state_dict, prefix, self, {"gamma": "weight", "beta": "bias"})
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, unbiased={self.unbiased}"


class RMSNorm(_Layer, nn.RMSNorm):
    """`torch.nn.RMSNorm`, whose factor is weight + offset: 1 for Gemma. It also loads torchtune's scale, and gamma."""

    def __init__(
        self,
        normalized_shape: Shape,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        offset: float = 0.0,
    ) -> None:
        self.offset = offset
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)

    def reset_parameters(self) -> None:
        """The factor begins at 1."""
        if self.elementwise_affine:
            nn.init.constant_(self.weight, 1.0 - self.offset)

    def forward(self, x: Tensor, residual: Tensor | None = None, *, modulation: F.Modulation | None = None) -> Any:
        shape, offset = self.normalized_shape, self.offset
        return F.norm(x, residual, shape, self.weight, None, self.eps, _ops.RMS_NORM, offset, modulation)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        _rename(state_dict, prefix, self, {"scale": "weight", "gamma": "weight"})
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, offset={self.offset}"
