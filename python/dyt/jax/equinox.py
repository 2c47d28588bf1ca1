"""Modules for Equinox: x has the shape of the module, and `jax.vmap` takes the other axes.

`LayerNorm` and `RMSNorm` take the place of Equinox's classes of these names. A `vmap` over them is one call of a kernel.

With `residual`, an array like x, a module gives (y, sum) in the place of y, where y is the op of sum = x + residual.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ._call import Extra, norm, pointwise

__all__ = ["Derf", "DynamicTanh", "LayerNorm", "RMSNorm"]

_MISSING: Any = object()


class LayerNorm(eqx.nn.LayerNorm):
    """`equinox.nn.LayerNorm` by one kernel."""

    def __call__(
        self, x: jax.Array, state: Any = _MISSING, *, key: Any = None, residual: jax.Array | None = None
    ) -> Any:
        x, weight, bias = _flat(self, x)
        return _result(
            self, norm("layer_norm", x, x.size, weight, bias, self.eps, False, 0.0, _extra(x, residual)), state
        )


class RMSNorm(eqx.nn.RMSNorm):
    """`equinox.nn.RMSNorm` by one kernel."""

    def __call__(
        self, x: jax.Array, state: Any = _MISSING, *, key: Any = None, residual: jax.Array | None = None
    ) -> Any:
        x, weight, bias = _flat(self, x)
        return _result(
            self, norm("rms_norm", x, x.size, weight, bias, self.eps, False, 0.0, _extra(x, residual)), state
        )


class _Pointwise(eqx.Module):
    """What DyT and Derf share: alpha of the shape (1,), weight and bias."""

    shape: tuple[int, ...] = eqx.field(static=True)
    alpha: jax.Array
    weight: jax.Array | None
    bias: jax.Array | None

    def __init__(
        self,
        shape: int | Sequence[int],
        alpha_init_value: float = 0.5,
        use_weight: bool = True,
        use_bias: bool = True,
        dtype: Any = None,
    ):
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.alpha = jnp.full((1,), alpha_init_value, dtype)
        self.weight = jnp.ones(self.shape, dtype) if use_weight else None
        self.bias = jnp.zeros(self.shape, dtype) if use_bias else None


class DynamicTanh(_Pointwise):
    """weight · tanh(alpha · x) + bias."""

    def __call__(
        self, x: jax.Array, state: Any = _MISSING, *, key: Any = None, residual: jax.Array | None = None
    ) -> Any:
        x, weight, bias = _flat(self, x)
        return _result(self, pointwise("dyt", x, {"alpha": self.alpha}, weight, bias, True, _extra(x, residual)), state)


class Derf(_Pointwise):
    """weight · erf(alpha · x + shift) + bias."""

    shift: jax.Array

    def __init__(
        self,
        shape: int | Sequence[int],
        alpha_init_value: float = 0.5,
        shift_init_value: float = 0.0,
        use_weight: bool = True,
        use_bias: bool = True,
        dtype: Any = None,
    ):
        super().__init__(shape, alpha_init_value, use_weight, use_bias, dtype)
        self.shift = jnp.full((1,), shift_init_value, dtype)

    def __call__(
        self, x: jax.Array, state: Any = _MISSING, *, key: Any = None, residual: jax.Array | None = None
    ) -> Any:
        x, weight, bias = _flat(self, x)
        scalars = {"alpha": self.alpha, "shift": self.shift}
        return _result(self, pointwise("derf", x, scalars, weight, bias, True, _extra(x, residual)), state)


def _flat(module: Any, x: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """x and the parameters along one axis, the parameters in x's dtype or in float32."""
    if x.shape != module.shape:
        name = type(module).__name__
        raise ValueError(
            f"dyt.jax.equinox.{name}: x has shape {x.shape}, expected {module.shape}; take other axes by jax.vmap"
        )

    def flat(parameter: jax.Array | None) -> jax.Array | None:
        if parameter is None:
            return None
        return (parameter if parameter.dtype == x.dtype else parameter.astype(jnp.float32)).reshape(-1)

    return x.reshape(-1), flat(module.weight), flat(module.bias)


def _extra(x: jax.Array, residual: jax.Array | None) -> Extra:
    """The residual in the shape of x, if it has as many elements."""
    if residual is None or residual.size != x.size:
        return Extra(residual)
    return Extra(residual.reshape(-1))


def _result(module: Any, y: Any, state: Any) -> Any:
    """y, or (y, sum), in the module's shape, and the state if the caller handed one over, as Equinox's norms have it."""
    y = jax.tree.map(lambda array: array.reshape(module.shape), y)
    return y if state is _MISSING else (y, state)
