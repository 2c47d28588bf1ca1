"""Which strides the kernels give their results: the same decisions as `src/torch/layout.rs`, for shapes that are traced."""

from torch import Tensor


def channels(ndim: int, dims: int) -> range:
    """The dimensions along which the parameters run: the last `dims` of them, or the second one where it is 0."""
    return range(max(ndim - dims, 0), ndim) if dims else range(1, 2)


def is_dense(x: Tensor, dims: int) -> bool:
    """Whether the kernels take x as it lies, in whatever order of the rows; they copy it otherwise."""
    if x.is_contiguous() or any(size == 0 for size in x.shape):
        return True
    columns = list(channels(x.ndim, dims))
    others = [at for at in range(x.ndim) if at not in columns]
    if dims:
        return _follow(x, columns[::-1], 1) and _fill(x, others, _count(x, columns))
    if x.stride(1) == 1 or x.shape[1] == 1:
        return _fill(x, others, x.shape[1])
    inner = others[1:]
    return _fill(x, inner, 1) and _follow(x, [1, 0], _count(x, inner))


def _count(x: Tensor, dimensions: list[int]) -> int:
    count = 1
    for at in dimensions:
        count *= x.shape[at]
    return count


def _follow(x: Tensor, dimensions: list[int], expected: int) -> bool:
    """Whether each dimension begins where those before it end. One of size 1 does, whatever its stride."""
    for at in dimensions:
        if x.shape[at] != 1 and x.stride(at) != expected:
            return False
        expected *= x.shape[at]
    return True


def _fill(x: Tensor, dimensions: list[int], expected: int) -> bool:
    """Whether these dimensions follow one another in some order."""
    return _follow(x, sorted(dimensions, key=lambda at: (x.stride(at), x.shape[at])), expected)
