"""The ops as functions of JAX, with gradients, under `jit`, `vmap`, `grad`, `shard_map` and sharded arrays.

x is float32, float16 or bfloat16, and y has its dtype. weight and bias are of x's dtype or float32; gradients have the
dtype of what they are the gradient of.

    y = dyt.jax.dyt(x, alpha, weight, bias)

`dyt.jax.nnx` has the modules for Flax, `dyt.jax.equinox` those for Equinox.
"""

from ._attention import qk_norm
from ._ops import add_derf, add_dyt, add_layer_norm, add_rms_norm, derf, dyt, layer_norm, rms_norm
from ._quantised import quantised_derf, quantised_dyt, quantised_layer_norm, quantised_rms_norm

__all__ = [
    "add_derf",
    "add_dyt",
    "add_layer_norm",
    "add_rms_norm",
    "derf",
    "dyt",
    "layer_norm",
    "qk_norm",
    "quantised_derf",
    "quantised_dyt",
    "quantised_layer_norm",
    "quantised_rms_norm",
    "rms_norm",
]
