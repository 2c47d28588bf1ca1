"""The ops as functions of JAX, with gradients, under `jit`, `vmap`, `grad`, `shard_map` and sharded arrays.

x is float32, float16 or bfloat16, and y has its dtype. weight and bias are of x's dtype or float32; gradients have the
dtype of what they are the gradient of.

    y = dyt.jax.dyt(x, alpha, weight, bias)

`dyt.jax.nnx` has the modules for Flax, `dyt.jax.equinox` those for Equinox.
"""

from ._ops import derf, dyt, layer_norm, rms_norm

__all__ = ["derf", "dyt", "layer_norm", "rms_norm"]
