"""How the ops are cut among devices: the rules of DTensor.

Where rows are cut, each device has the whole parameters and a partial sum of their gradients. Where the columns of DyT and
Derf are cut, weight and bias are cut with them, and nothing is exchanged in either direction; alpha's and shift's gradients
are partial sums. The norms need whole rows: DTensor gathers their columns.
"""

from torch.distributed.tensor import Partial, Replicate, Shard
from torch.distributed.tensor.experimental import register_sharding

from . import _ops
from ._layout import channels

WHOLE, SUM = Replicate(), Partial()


def _given(placement, tensor):
    return None if tensor is None else placement


def _cuts(x, dims, pointwise):
    """Placements of x, of a parameter, and of the gradients of a parameter and of a scalar."""
    columns = channels(x.ndim, dims)
    yield WHOLE, WHOLE, WHOLE, WHOLE
    for dim in range(x.ndim):
        if dim not in columns:
            yield Shard(dim), WHOLE, SUM, SUM
        elif pointwise:
            own = Shard(dim - columns.start)
            yield Shard(dim), own, own, SUM


def _wanted(mask, *placements):
    """Gradients that are not asked for have no elements."""
    return [placement if mask >> at & 1 else WHOLE for at, placement in enumerate(placements)]


@register_sharding(_ops.pointwise)
def _(x, alpha, shift, weight, bias, dims):
    return [
        ([cut], [cut, WHOLE, _given(WHOLE, shift), _given(own, weight), _given(own, bias), None])
        for cut, own, _, _ in _cuts(x, dims, True)
    ]


@register_sharding(_ops.dyt_backward)
def _(dy, x, alpha, weight, dims, mask):
    return [
        (_wanted(mask, cut, scalar, vector, vector), [cut, cut, WHOLE, _given(own, weight), None, None])
        for cut, own, vector, scalar in _cuts(x, dims, True)
    ]


@register_sharding(_ops.derf_backward)
def _(dy, x, alpha, shift, weight, dims, mask):
    return [
        (_wanted(mask, cut, scalar, vector, vector, scalar), [cut, cut, WHOLE, WHOLE, _given(own, weight), None, None])
        for cut, own, vector, scalar in _cuts(x, dims, True)
    ]


@register_sharding(_ops.norm)
def _(x, weight, bias, dims, eps, form, offset):
    return [
        ([cut], [cut, _given(own, weight), _given(own, bias), None, None, None, None])
        for cut, own, _, _ in _cuts(x, dims, False)
    ]


@register_sharding(_ops.norm_saving)
def _(x, weight, bias, dims, eps, form, offset):
    return [
        ([cut, _mean(cut, form), cut], [cut, _given(own, weight), _given(own, bias), None, None, None, None])
        for cut, own, _, _ in _cuts(x, dims, False)
    ]


@register_sharding(_ops.norm_backward)
def _(dy, x, weight, mean, rstd, dims, eps, form, offset, mask):
    return [
        (
            _wanted(mask, cut, vector, vector),
            [cut, cut, _given(own, weight), _mean(cut, form), cut, None, None, None, None, None],
        )
        for cut, own, vector, _ in _cuts(x, dims, False)
    ]


def _mean(cut, form):
    """That of RMSNorm has no elements."""
    return WHOLE if form == _ops.RMS_NORM else cut
