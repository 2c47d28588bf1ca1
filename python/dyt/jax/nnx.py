"""Modules for Flax nnx, with the parameters that its own norms have: `scale` and `bias`.

`LayerNorm` and `RMSNorm` take the place of Flax's classes of these names. Each result has the dtype that Flax gives it:
`dtype`, or the one that x and the parameters promote to.

With `residual` a module returns (y, sum), where y is the op of sum = x + residual. `modulate(x, scale, shift)` is AdaLN's
y · (1 + scale) + shift, with scale and shift as (batch, dim) beside an x of (batch, tokens, dim).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from ._call import Extra, Modulation, norm, pointwise

__all__ = ["Derf", "DynamicTanh", "LayerNorm", "RMSNorm"]

_ZEROS, _ONES = nnx.initializers.zeros_init(), nnx.initializers.ones_init()


class _Layer:
    """What every module here has."""

    def _apply(self, x: ArrayLike, residual: ArrayLike | None, modulation: Modulation | None) -> Any:
        raise NotImplementedError

    def modulate(self, x: ArrayLike, scale: ArrayLike, shift: ArrayLike, residual: ArrayLike | None = None) -> Any:
        """y · (1 + scale) + shift; with a residual (y, sum)."""
        return self._apply(x, residual, (scale, shift))


class LayerNorm(_Layer, nnx.LayerNorm):
    """`nnx.LayerNorm`, for one device and the last axis, by one kernel."""

    def __call__(self, x: ArrayLike, *, mask: Any = None, residual: ArrayLike | None = None) -> Any:
        _check(self, mask)
        return self._apply(x, residual, None)

    def _apply(self, x: ArrayLike, residual: ArrayLike | None, modulation: Modulation | None) -> Any:
        x, scale, bias = _promoted(self.dtype, x, self.scale, self.bias)
        extra = _extra(x, residual, modulation)
        return norm("layer_norm", x, self.num_features, scale, bias, self.epsilon, False, 0.0, extra)


class RMSNorm(_Layer, nnx.RMSNorm):
    """`nnx.RMSNorm`, for one device and the last axis, by one kernel."""

    def __call__(self, x: ArrayLike, mask: Any = None, *, residual: ArrayLike | None = None) -> Any:
        _check(self, mask)
        return self._apply(x, residual, None)

    def _apply(self, x: ArrayLike, residual: ArrayLike | None, modulation: Modulation | None) -> Any:
        x, scale, _ = _promoted(self.dtype, x, self.scale, None)
        extra = _extra(x, residual, modulation)
        return norm("rms_norm", x, self.num_features, scale, None, self.epsilon, False, 0.0, extra)


class _Pointwise(_Layer, nnx.Module):
    """What DyT and Derf share: alpha of the shape (1,), scale and bias."""

    def __init__(
        self,
        num_features: int,
        *,
        alpha_init_value: float = 0.5,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: nnx.Initializer = _ZEROS,
        scale_init: nnx.Initializer = _ONES,
        rngs: nnx.Rngs,
    ):
        self.alpha = nnx.Param(jnp.full((1,), alpha_init_value, param_dtype))
        self.scale = nnx.Param(scale_init(rngs.params(), (num_features,), param_dtype)) if use_scale else None
        self.bias = nnx.Param(bias_init(rngs.params(), (num_features,), param_dtype)) if use_bias else None
        self.num_features = num_features
        self.dtype = dtype

    def __call__(self, x: ArrayLike, *, residual: ArrayLike | None = None) -> Any:
        return self._apply(x, residual, None)

    def _scalars(self) -> dict[str, ArrayLike]:
        return {"alpha": self.alpha[...]}

    def _apply(self, x: ArrayLike, residual: ArrayLike | None, modulation: Modulation | None) -> Any:
        x, scale, bias = _promoted(self.dtype, x, self.scale, self.bias)
        scalars = self._scalars()
        op = "derf" if "shift" in scalars else "dyt"
        return pointwise(op, x, scalars, scale, bias, True, _extra(x, residual, modulation))


class DynamicTanh(_Pointwise):
    """scale · tanh(alpha · x) + bias along the last axis."""


class Derf(_Pointwise):
    """scale · erf(alpha · x + shift) + bias along the last axis."""

    def __init__(
        self, num_features: int, *, shift_init_value: float = 0.0, param_dtype: Any = jnp.float32, **options: Any
    ):
        super().__init__(num_features, param_dtype=param_dtype, **options)
        self.shift = nnx.Param(jnp.full((1,), shift_init_value, param_dtype))

    def _scalars(self) -> dict[str, ArrayLike]:
        return {"alpha": self.alpha[...], "shift": self.shift[...]}


def _extra(x: jax.Array, residual: ArrayLike | None, modulation: Modulation | None) -> Extra:
    """The residual takes part in the dtype of x, as it is promoted."""
    return Extra(None if residual is None else jnp.asarray(residual).astype(x.dtype), modulation)


def _check(module: Any, mask: Any) -> None:
    """Refuses what the kernels do not compute."""
    last = all(axes in (-1, (-1,), [-1]) for axes in (module.reduction_axes, module.feature_axes))
    if mask is not None or module.axis_name is not None or not last:
        name = type(module).__name__
        raise NotImplementedError(
            f"dyt.jax.nnx.{name}: no mask, no axis_name, and no axes but the last; use nnx.{name}"
        )


def _promoted(dtype: Any, x: ArrayLike, scale: Any, bias: Any) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """x in the dtype of the result, and the parameters in that or in float32."""
    x, scale, bias = jnp.asarray(x), *(None if value is None else value[...] for value in (scale, bias))
    given = [value for value in (scale, bias) if value is not None]
    dtype = jnp.result_type(x, *given) if dtype is None else jnp.dtype(dtype)
    fit = lambda value: value if value is None or value.dtype == dtype else value.astype(jnp.float32)
    return x.astype(dtype), fit(scale), fit(bias)
