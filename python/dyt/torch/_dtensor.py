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


def _cuts(x, dims, form, _eps=0.0, lead=0, _offset=0.0):
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


def _none(options):
    return [None] * len(options)


@register_sharding(_ops.forward)
def _(x, alpha, shift, weight, bias, *options):
    return [
        ([cut], [*_parameters(cut, own, alpha, shift, weight, bias), *_none(options)])
        for cut, own, _, _ in _cuts(x, *options)
    ]


@register_sharding(_ops.saving)
def _(x, alpha, shift, weight, bias, residual, *options):
    form = options[1]
    return [
        (
            [cut, cut if residual is not None else WHOLE, _mean(cut, form), _rstd(cut, form)],
            [*_parameters(cut, own, alpha, shift, weight, bias), _given(cut, residual), *_none(options)],
        )
        for cut, own, _, _ in _cuts(x, *options)
    ]


@register_sharding(_ops.quantised)
def _(x, alpha, shift, weight, bias, residual, scale, quant, *options):
    # A scale of a row is one of whole rows.
    dims, form, *more = options
    like = (dims, _ops.LAYER_NORM if scale is None else form, *more)
    return [
        (
            [cut, cut if residual is not None else WHOLE, cut if scale is None else WHOLE],
            [
                *_parameters(cut, own, alpha, shift, weight, bias),
                _given(cut, residual),
                _given(WHOLE, scale),
                None,
                *_none(options),
            ],
        )
        for cut, own, _, _ in _cuts(x, *like)
    ]


@register_sharding(_ops.backward)
def _(dy, x, alpha, shift, weight, mean, rstd, dsum, mask, *options):
    return [
        (
            _wanted(mask, cut, scalar, scalar, vector, vector),
            [
                cut,
                *_parameters(cut, own, alpha, shift, weight, None)[:4],
                _given(cut, mean),
                _given(cut, rstd),
                _given(cut, dsum),
                None,
                *_none(options),
            ],
        )
        for cut, own, vector, scalar in _cuts(x, *options)
    ]


def _mean(cut, form):
    """That of RMSNorm has no elements."""
    return WHOLE if form >= _ops.RMS_NORM else cut


def _rstd(cut, form):
    return WHOLE if form >= _ops.DYT else cut
