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


def _cuts(x, dims, lead, form):
    """Placements of x, of a parameter, and of the gradients of a parameter and of a scalar."""
    columns = channels(x.ndim, dims)
    yield WHOLE, WHOLE, WHOLE, WHOLE
    for dim in range(x.ndim):
        if dim < lead:
            # Parameters of its own.
            yield Shard(dim), Shard(dim), Shard(dim), SUM
        elif dim not in columns:
            yield Shard(dim), WHOLE, SUM, SUM
        elif form >= _ops.DYT:
            own = Shard(lead + dim - columns.start)
            yield Shard(dim), own, own, SUM


def _wanted(mask, *placements):
    """Gradients that are not asked for have no elements."""
    return [placement if mask >> at & 1 else WHOLE for at, placement in enumerate(placements)]


def _parameters(cut, own, alpha, shift, weight, bias):
    return [cut, _given(WHOLE, alpha), _given(WHOLE, shift), _given(own, weight), _given(own, bias)]


_OPTIONS = [None] * 5


@register_sharding(_ops.forward)
def _(x, alpha, shift, weight, bias, dims, lead, form, eps, offset):
    return [
        ([cut], [*_parameters(cut, own, alpha, shift, weight, bias), *_OPTIONS])
        for cut, own, _, _ in _cuts(x, dims, lead, form)
    ]


@register_sharding(_ops.saving)
def _(x, alpha, shift, weight, bias, dims, lead, form, eps, offset, residual):
    return [
        (
            [cut, cut if residual is not None else WHOLE, _mean(cut, form), _rstd(cut, form)],
            [*_parameters(cut, own, alpha, shift, weight, bias), *_OPTIONS, _given(cut, residual)],
        )
        for cut, own, _, _ in _cuts(x, dims, lead, form)
    ]


@register_sharding(_ops.quantised)
def _(x, alpha, shift, weight, bias, dims, lead, form, eps, offset, residual, scale, quant):
    # A scale of a row is one of whole rows.
    whole = _ops.LAYER_NORM if scale is None else form
    return [
        (
            [cut, cut if residual is not None else WHOLE, cut if scale is None else WHOLE],
            [
                *_parameters(cut, own, alpha, shift, weight, bias),
                *_OPTIONS,
                _given(cut, residual),
                _given(WHOLE, scale),
                None,
            ],
        )
        for cut, own, _, _ in _cuts(x, dims, lead, whole)
    ]


@register_sharding(_ops.backward)
def _(dy, x, alpha, shift, weight, dims, lead, form, eps, offset, mask, mean, rstd, dsum):
    return [
        (
            _wanted(mask, cut, scalar, scalar, vector, vector),
            [
                cut,
                *_parameters(cut, own, alpha, shift, weight, None)[:4],
                *_OPTIONS,
                None,
                _given(cut, mean),
                _given(cut, rstd),
                _given(cut, dsum),
            ],
        )
        for cut, own, vector, scalar in _cuts(x, dims, lead, form)
    ]


def _mean(cut, form):
    """That of RMSNorm has no elements."""
    return WHOLE if form >= _ops.RMS_NORM else cut


def _rstd(cut, form):
    return WHOLE if form >= _ops.DYT else cut
