"""The norm of queries and keys in a packed QKV."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["qk_norm"]

Norm = Callable[[Tensor], Tensor]


def qk_norm(
    qkv: Tensor, q_norm: Norm, k_norm: Norm, heads: int, kv_heads: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(q_norm(q), k_norm(k), v) of a packed QKV: what its projection returns, of shape (…, (heads + 2 · kv_heads) · dim).

    q is (…, heads, dim), k and v are (…, kv_heads, dim); kv_heads is heads where it is not given. A norm is a module of head
    dim, such as `RMSNorm(dim)` or `DynamicTanh(dim)`, or a function of a tensor. It reads q and k where they lie in qkv, on
    the CPU without a copy; v is a view. The backward brings the three gradients together once.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    if not isinstance(qkv, Tensor):
        raise TypeError(f"dyt: qkv is {type(qkv).__name__}, expected a tensor")
    every = heads + 2 * kv_heads
    if heads < 1 or kv_heads < 1 or qkv.ndim < 1 or qkv.shape[-1] % every:
        words = f"expected its last dimension to be a multiple of heads + 2 · kv_heads, {every}"
        raise RuntimeError(f"dyt: qkv has shape {list(qkv.shape)}, {words}")
    q, k, v = qkv.unflatten(-1, (every, -1)).split((heads, kv_heads, kv_heads), -2)
    return q_norm(q), k_norm(k), v
