"""The norm of queries and keys in a packed QKV."""

from collections.abc import Callable

import jax

Norm = Callable[[jax.Array], jax.Array]


def qk_norm(
    qkv: jax.Array, q_norm: Norm, k_norm: Norm, heads: int, kv_heads: int | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(q_norm(q), k_norm(k), v) of a packed QKV of shape (…, (heads + 2 · kv_heads) · dim); kv_heads is heads by default.

    q is (…, heads, dim), k and v are (…, kv_heads, dim). A norm is a module or a function of an array whose last axis is dim.
    XLA hands no strided array to a kernel: under `jit` it copies q and k first.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    every = heads + 2 * kv_heads
    if heads < 1 or kv_heads < 1 or qkv.ndim < 1 or qkv.shape[-1] % every:
        words = f"expected its last axis to be a multiple of heads + 2 · kv_heads, {every}"
        raise ValueError(f"dyt.jax.qk_norm: qkv has shape {qkv.shape}, {words}")
    qkv = qkv.reshape(*qkv.shape[:-1], every, qkv.shape[-1] // every)
    q, k, v = qkv[..., :heads, :], qkv[..., heads : heads + kv_heads, :], qkv[..., heads + kv_heads :, :]
    return q_norm(q), k_norm(k), v
