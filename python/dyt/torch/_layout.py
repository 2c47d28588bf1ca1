"""Which strides the kernels give their results: the same decisions as `src/torch/layout.rs`, for shapes that are traced."""

from collections.abc import Sequence

from torch import Tensor


def channels(ndim: int, dims: int) -> range:
    """The dimensions along which the parameters run: the last `dims` of them, or the second one where it is 0."""
    return range(max(ndim - dims, 0), ndim) if dims else range(1, 2)


#: How far x may reach to be read where it lies, by its elements: a forward's may as far as it likes; dx, which lies as x does,
#: is not to be nearly all gaps; with a residual, rows lie side by side.
ANY, GRADIENT, SIDE_BY_SIDE = None, 8, 0


def plan(x: Tensor, dims: int, lead: int, reach: int | None) -> tuple[Sequence[int], bool]:
    """The strides of y, and whether the kernels read x where it lies; they read a copy with y's strides otherwise.

    Each element of the first `lead` dimensions has parameters of its own.
    """
    if x.is_contiguous() or any(size == 0 for size in x.shape):
        return x.stride(), True
    columns = channels(x.ndim, dims)
    order = sorted((at for at in range(x.ndim) if at not in columns), key=lambda at: (x.stride(at), x.shape[at]))
    leads = order[::-1][:lead] == list(range(lead))
    if leads and _is_dense(x, dims):
        return x.stride(), True
    if leads and dims and (reaches := _reaches_apart(x, columns, order)) is not None:
        # Kernels of other devices refuse heads so far.
        near = x.device.type == "cpu" and (reach is None or reaches <= reach * x.numel())
        return _side_by_side(x, order), near
    return _side_by_side(x, list(range(x.ndim))[::-1]), False


def _reaches_apart(x: Tensor, columns: range, order: list[int]) -> int | None:
    """The elements from the first of x to its last, if its rows are tokens of heads."""
    cols = _count(x, list(columns))
    if not _follow(x, list(columns)[::-1], 1):
        return None
    # From the inside to the outside: rows and their stride, those that are equally far apart as one.
    runs: list[tuple[int, int]] = []
    for size, stride in ((x.shape[at], x.stride(at)) for at in order if x.shape[at] > 1):
        if runs and runs[-1][0] * runs[-1][1] == stride:
            runs[-1] = (runs[-1][0] * size, runs[-1][1])
        else:
            runs.append((size, stride))
    if not 1 <= len(runs) <= 2:
        return None
    heads, head_stride = runs[0] if len(runs) == 2 else (1, cols)
    tokens, row_stride = runs[-1]
    extent = (heads - 1) * head_stride + cols
    if head_stride < cols or row_stride < extent:
        return None
    return (tokens - 1) * row_stride + extent


def _side_by_side(x: Tensor, order: list[int]) -> list[int]:
    """The strides of a tensor without gaps, whose outer dimensions have that order in memory; the others are contiguous."""
    strides = [1] * x.ndim
    expected = 1
    for at in [at for at in range(x.ndim)[::-1] if at not in order] + order:
        strides[at] = expected
        expected *= x.shape[at]
    return strides


def _is_dense(x: Tensor, dims: int) -> bool:
    """Whether the elements of x lie side by side, in whatever order of the rows."""
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
